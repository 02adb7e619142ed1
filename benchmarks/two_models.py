"""Two models that do not fit together: the plan beside what a user of asyncio gets.

Everybody has the same engine, the same memory (one model and its KV cache), and loads on demand: a
model with calls running stays, an idle one makes room. `gather` starts all rows at once with
asyncio.gather, which is the baseline; `gather, 8 at a time` puts a semaphore around each row, as is
usual; `plan` is `engine.run`; `plan without merging` shows what is left when every call of every
row is made; `known beforehand` is what the plan asks, all at once (beforehand.py). Loading is
inside the time. No engine but the plan's knows what will be asked next.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait import Engine, tool, workflow
from plait.engine.backends.local import LocalBackend

from .beforehand import BEFOREHAND, Asked, NotingBackend, ask_at_once
from .workflow_shapes import ask, two_models
from .workflow_text import documents, pick, questions, rows, text

KV = 256 << 20
TOKENS = 24
PLAN, GATHER, EIGHT = "plan", "gather", "gather, 8 at a time"
UNMERGED = "plan without merging"

plan_search, read = ask("planner", TOKENS, "small"), ask("reader", TOKENS, "small")
answer, finish = ask("answerer", TOKENS, "big"), ask("editor", TOKENS, "big")
review = ask("reviewer", TOKENS, "small")


@tool(effect="pure")
async def search(words: str) -> str:
    """A page, after 0.1 to 0.8 seconds: searches do not all take the same time."""
    await asyncio.sleep(0.1 + sum(words.encode()) % 8 / 10)
    return text(f"page/{words[-24:]}", 60)


@workflow
def searching(document: str, question: str) -> str:
    """Each model is asked before and behind a search."""
    page = search(plan_search(document, question))
    draft = answer(read(page, question), question)
    return finish(search(review(draft, "Say what to look up.")), question)


WORK: dict[str, tuple[str, Any]] = {
    "pipeline": ("small, big, small, big", two_models),
    "searching": ("the same with slow tools between", searching),
}


@dataclass(frozen=True, slots=True)
class Found:
    """One way of running one workflow."""

    work: str
    mode: str
    seconds: float
    loads: int
    load_seconds: float
    calls: int
    """Requests the models were asked."""
    outputs: tuple[Any, ...]


def bench(
    models: dict[str, Path], count: int = 24, works: Sequence[str] = (),
    modes: Sequence[str] = (), say: Callable[[str], None] = lambda line: None,
) -> list[Found]:  # fmt: skip
    """Every way of running every workflow, once each, with a fresh engine.

    Files are read once before, so that every way finds them in the system's cache, and what a
    machine measures at a model's first load is measured.
    """
    for path in models.values():
        with Engine(model=path, kv_memory=KV) as engine:
            engine.generate("warm up", max_tokens=2)
    found = []
    for name in works or WORK:
        for mode in modes or (PLAN, GATHER, EIGHT, UNMERGED, BEFOREHAND):
            found.append(measure(models, name, WORK[name][1], mode, batch(name, count)))
            say(line(found[-1]))
    return found


def batch(name: str, count: int) -> list[dict[str, Any]]:
    """Rows as of the workflow benchmark: a few documents, more questions."""
    pool = documents(name, 8, 160), questions(name, 24)
    return rows(("document", "question"), pick(name, count, *pool))


def measure(
    models: dict[str, Path], name: str, work: Any, mode: str, batch: list[dict[str, Any]]
) -> Found:
    planned = mode in (PLAN, UNMERGED)
    asked, outputs = Asked(), list[Any]()
    if mode == BEFOREHAND:
        asked, outputs = _asked(models, work, batch)
    with Engine(models=models, kv_memory=KV, memory=limit(models), plan=planned) as engine:
        assert isinstance(engine.backend, LocalBackend)
        start = time.perf_counter()
        if mode == BEFOREHAND:
            ask_at_once(engine.backend, asked)
            calls = len(asked.calls)
        elif not planned:
            outputs = asyncio.run(gathered(engine, work, batch, 8 if mode == EIGHT else len(batch)))
            calls = len(batch) * sum(1 for n in work.workflow.nodes.values() if hasattr(n, "model"))
        else:
            off = ("merge_calls", "single_flight") if mode == UNMERGED else ()
            run = engine.run(work, batch, disable=off)
            outputs = run.outputs
            nodes = [n for n in run.stats.nodes.values() if n.operator == "LLMCall"]
            calls = sum(n.calls - n.merged for n in nodes)
        seconds = time.perf_counter() - start
        costs = engine.backend.describe()["loads"].values()
    gc.collect()
    loads = sum(c["loads"] for c in costs)
    spent = sum(c["loads"] * c["load_seconds"] for c in costs)
    return Found(name, mode, seconds, loads, spent, calls, tuple(outputs))


def _asked(models: dict[str, Path], work: Any, batch: list[Any]) -> tuple[Asked, list[Any]]:
    """What the models are asked in a run of the plan, and its outputs."""
    backend = NotingBackend(models, memory=limit(models), kv_memory=KV)
    with Engine(models=models, backend=backend) as engine:
        return backend.asked, engine.run(work, batch).outputs


async def gathered(engine: Engine, work: Any, batch: list[dict[str, Any]], most: int) -> list[Any]:
    """The rows as tasks of asyncio, each calling the engine for itself."""
    room = asyncio.Semaphore(most)

    async def one(row: dict[str, Any]) -> Any:
        async with room:
            return await engine.acall(work, **{k: v for k, v in row.items() if k != "id"})

    return await asyncio.gather(*(one(row) for row in batch))


def limit(models: dict[str, Path]) -> int:
    """Memory for one model and its KV cache and half of another."""
    from plait.engine.llm.model import estimate_bytes

    weights = max(estimate_bytes(path, "auto", "auto") for path in models.values())
    return (weights + KV) * 3 // 2


def line(found: Found) -> str:
    return (
        f"{found.work:<10} {found.mode:<21} {found.seconds:7.2f} s, {found.loads:3} loads "
        f"({found.load_seconds:.2f} s), {found.calls} calls"
    )


def table(found: Sequence[Found]) -> str:
    """The runs by workflow, with what each takes over the plan and whether outputs are equal."""
    lines = []
    for one in found:
        plan = next((f for f in found if (f.work, f.mode) == (one.work, PLAN)), None)
        if plan is None:
            lines.append(line(one))
            continue
        same = "equal" if one.outputs == plan.outputs else "OUTPUTS DIFFER"
        ratio = one.seconds / plan.seconds
        lines.append(f"{line(one)}, {ratio:.2f} x the plan's time, {same}")
    return "\n".join(lines)
