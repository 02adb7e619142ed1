"""One mode of one shape of the workflow benchmark, run and counted."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import plait
from plait.engine.backends.local import LocalBackend
from plait.engine.engine import Engine

from .beforehand import BEFOREHAND, Asked, NotingBackend, ask_at_once
from .operator_wise import run_operator_wise
from .workflow_shapes import WINDOW, Shape

BASELINE, PLAN = "asyncio", "plan"
QUERY_WISE, OPERATOR_WISE = "query-wise", "operator-wise"
ABLATIONS: dict[str, tuple[str, ...]] = {
    "without merging": ("merge_calls", "single_flight"),
    "without single flight": ("single_flight",),
    "without prefixes": ("share_prefixes",),
    "without order": ("order_rows",),
    "without trials": ("try_orders",),
    "without liveness": ("liveness",),
    "without early prefill": ("split_prefill",),
    "without hoisting": ("hoist_tools",),
    "without pruning": ("prune_unused",),
    "without folding": ("fold_constants",),
}
"""`reorder_parts` is not among them: what it does to prompts changes answers, if it is asked to."""
MODES: dict[str, tuple[str, ...]] = {
    "ample": (
        QUERY_WISE,
        OPERATOR_WISE,
        BASELINE,
        PLAN,
        BEFOREHAND,
        "without merging",
        "without single flight",
        "without early prefill",
        "without hoisting",
        "without pruning",
        "without folding",
    ),
    "half": (
        OPERATOR_WISE,
        BASELINE,
        PLAN,
        BEFOREHAND,
        "without prefixes",
        "without order",
        "without trials",
        "without liveness",
    ),
}
"""By KV memory: the modes that tell something there. Order and liveness matter when something is
evicted; what merging saves hardly depends on memory."""
AMPLE = 2 << 30
"""Bytes of KV memory in which no shape evicts anything."""
SLICE = 3
"""Rows that query-wise runs cold, and again as many warm, which stand for all the others."""


@dataclass(slots=True)
class Measured:
    """One mode of one shape: the median run."""

    mode: str
    seconds: float = 0.0
    every: list[float] = field(default_factory=list)
    rows: int = 0
    """Rows that were run; fewer than there are when the rest was extrapolated."""
    calls: int = 0
    executed: int = 0
    prompt_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    evicted_tokens: int = 0
    preemptions: int = 0
    steps: int = 0
    planning: float = 0.0
    kept_pages: int = 0
    total_pages: int = 0


COUNTED = ("prompt_tokens", "prefill_tokens", "generated_tokens", "evicted_tokens",
           "preemptions", "steps")  # fmt: skip


def measure(shape: Shape, mode: str, rows: Sequence[dict[str, Any]], models: dict[str, str],
            kv_memory: int) -> tuple[Measured, list[plait.Row]]:  # fmt: skip
    """One run of one mode on a fresh engine: what it took, and the rows it gave."""
    found = Measured(mode, rows=len(rows))
    asked, done = Asked(), list[plait.Row]()
    if mode == BEFOREHAND:
        asked, done = _asked(shape, models, kv_memory, rows)
    with _engine(shape, mode, models, kv_memory) as engine:
        before = _counters(engine)
        if mode == QUERY_WISE:
            found.seconds, done = _query_wise(shape, engine, rows)
            found.rows = len(done)
        else:
            start = time.perf_counter()
            if mode == OPERATOR_WISE:
                workflow = shape.workflow.workflow
                done = asyncio.run(run_operator_wise(workflow, engine.backend, rows))
            elif mode == BEFOREHAND:
                assert isinstance(engine.backend, LocalBackend)
                ask_at_once(engine.backend, asked)
            else:
                done = _run(shape, mode, engine, rows, found)
            found.seconds = time.perf_counter() - start
        after = _counters(engine)
    found.every = [found.seconds]
    found.executed = after["requests"] - before["requests"]
    for name in COUNTED:
        setattr(found, name, after[name] - before[name])
    found.kept_pages, found.total_pages = after["cached_pages"], after["total_pages"]
    return found, done


def half_of(found: Measured) -> int:
    """Bytes of KV memory for half of what a run with ample memory left in the cache."""
    return AMPLE * found.kept_pages // found.total_pages // 2


def _asked(shape: Shape, models: dict[str, str], kv_memory: int,
           rows: Sequence[dict[str, Any]]) -> tuple[Asked, list[plait.Row]]:  # fmt: skip
    """What the models are asked in a run of the plan, and its rows."""
    paths = {alias: models[alias] for alias in shape.models}
    backend = NotingBackend(paths, kv_memory=kv_memory)
    with Engine(models=paths, backend=backend, max_rows=WINDOW) as engine:
        return backend.asked, engine.run(shape.workflow, rows).rows


def _run(shape: Shape, mode: str, engine: Engine, rows: Sequence[dict[str, Any]],
         found: Measured) -> list[plait.Row]:  # fmt: skip
    disable = ABLATIONS.get(mode, ())
    run = engine.run(shape.workflow, rows, plan=mode != BASELINE, disable=disable)
    found.calls = sum(n.calls for n in run.stats.nodes.values() if n.operator == "LLMCall")
    found.planning = run.stats.planning_seconds
    return run.rows


def _query_wise(
    shape: Shape, engine: Engine, rows: Sequence[dict[str, Any]]
) -> tuple[float, list[plait.Row]]:
    """One row after the other. It takes long and is linear in the rows, so the first `SLICE` rows
    are run, and as many more that find prefixes in the cache, which stand for all the others."""
    spans: list[float] = []
    done: list[plait.Row] = []
    for part in (rows[:SLICE], rows[SLICE : 2 * SLICE]):
        start = time.perf_counter()
        done += engine.run(shape.workflow, part, plan=False).rows
        spans.append(time.perf_counter() - start)
    cold, warm = spans
    behind = len(rows) - SLICE
    return cold + (warm / min(SLICE, behind) * behind if behind > 0 else 0.0), done


@contextmanager
def _engine(shape: Shape, mode: str, models: dict[str, str], kv_memory: int) -> Iterator[Engine]:
    paths = {alias: models[alias] for alias in shape.models}
    window = 1 if mode == QUERY_WISE else WINDOW
    with Engine(models=paths, kv_memory=kv_memory, max_rows=window) as engine:
        for alias in shape.models:
            engine.generate("warm up", model=alias, max_tokens=2)
        yield engine
    gc.collect()


def _counters(engine: Engine) -> dict[str, int]:
    """What the models of an engine have done, summed."""
    backend = engine.backend
    assert isinstance(backend, LocalBackend)
    loaded = (backend.llm(alias) for alias in backend.describe()["loaded"])
    engines = {id(llm): llm for llm in loaded}  # aliases of one directory share one engine
    every = [asdict(llm.counters()) for llm in engines.values()]
    return {name: round(sum(c[name] for c in every)) for name in every[0]}
