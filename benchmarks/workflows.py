"""Whole batches of agent workflows: the plan beside the same engine without one.

Every mode runs the same rows on an engine of its own with the same model, threads and KV memory,
and an empty cache. Loading and one short generation come before the clock starts; planning is
inside it. Outputs of all modes are compared.

    query-wise     one row after the other                          never a headline
    operator-wise  one operator after the other, all rows of each   never a headline
    asyncio        every call as soon as its inputs are there, LRU prefix cache: the honest baseline
    plan           merged calls, rows ordered by prefixes
    without X      the plan with one of its optimizations left out
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import plait
from plait.engine.backends.local import LocalBackend
from plait.engine.engine import Engine
from plait.testing import assert_same_rows

from .operator_wise import run_operator_wise
from .workflow_shapes import SHAPES, Shape

ABLATIONS: dict[str, tuple[str, ...]] = {
    "without merging": ("merge_calls", "single_flight"),
    "without order": ("order_rows",),
    "without liveness": ("liveness",),
}
MODES = ("query-wise", "operator-wise", "asyncio", "plan", *ABLATIONS)
BASELINE = "asyncio"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all modes of one measurement have in common."""

    models: dict[str, str]
    rows: int = 24
    repeats: int = 3
    kv: str | None = None
    """`half`: KV memory for half of what the baseline's batch leaves in the cache."""
    modes: tuple[str, ...] = MODES


@dataclass(slots=True)
class Measured:
    """One mode of one shape: the median run."""

    mode: str
    seconds: float = 0.0
    every: list[float] = field(default_factory=list)
    calls: int = 0
    executed: int = 0
    prompt_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    evicted_tokens: int = 0
    planning: float = 0.0
    kept_pages: int = 0


def measure(shape: Shape, mode: str, rows: Sequence[dict[str, Any]], setting: Setting,
            kv_memory: int | None) -> tuple[Measured, list[plait.Row]]:  # fmt: skip
    """One run of one mode on a fresh engine."""
    with _engine(shape, mode, setting, kv_memory) as engine:
        before = _counters(engine)
        start = time.perf_counter()
        if mode == "operator-wise":
            done = asyncio.run(run_operator_wise(shape.workflow.workflow, engine.backend, rows))
            found, stats = done, None
        else:
            run = engine.run(
                shape.workflow, rows, plan=mode not in (BASELINE, "query-wise"),
                disable=ABLATIONS.get(mode, ()),
            )  # fmt: skip
            found, stats = run.rows, run.stats
        seconds = time.perf_counter() - start
        after = _counters(engine)
    result = Measured(mode, seconds, [seconds])
    if stats is not None:
        llm = [n for n in stats.nodes.values() if n.operator == "LLMCall"]
        result.calls = sum(n.calls for n in llm)
        result.planning = stats.planning_seconds
    result.executed = after["requests"] - before["requests"]
    for name in ("prompt_tokens", "prefill_tokens", "generated_tokens", "evicted_tokens"):
        setattr(result, name, after[name] - before[name])
    result.kept_pages = after["cached_pages"]
    return result, found


@contextmanager
def _engine(shape: Shape, mode: str, setting: Setting, kv_memory: int | None) -> Iterator[Engine]:
    paths = {alias: setting.models[alias] for alias in shape.models}
    window = 1 if mode == "query-wise" else 256
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


def bench_shape(shape: Shape, setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """All modes of one shape, in turns, so that the machine's moods meet all of them."""
    rows = shape.rows(setting.rows)
    kv_memory = _half(shape, rows, setting) if setting.kv == "half" else None
    results: dict[str, list[Measured]] = {mode: [] for mode in setting.modes}
    reference: list[plait.Row] | None = None
    for _ in range(setting.repeats):
        for mode in setting.modes:
            found, done = measure(shape, mode, rows, setting, kv_memory)
            if reference is None:
                reference = done
            assert_same_rows(reference, done)
            results[mode].append(found)
            tell(f"{shape.name:12} {mode:18} {found.seconds:8.2f} s")
    assert reference is not None and all(row.ok for row in reference)
    return {
        "shape": shape.name, "says": shape.says, "rows": len(rows), "kv_memory": kv_memory,
        "modes": {mode: asdict(_median(runs)) for mode, runs in results.items()},
    }  # fmt: skip


def _half(shape: Shape, rows: Sequence[dict[str, Any]], setting: Setting) -> int:
    """Bytes of KV memory for half of what a run with ample memory leaves in the cache."""
    found, _ = measure(shape, BASELINE, rows, setting, None)
    with _engine(shape, BASELINE, setting, None) as engine:
        backend = engine.backend
        assert isinstance(backend, LocalBackend)
        pool = backend.llm(shape.models[0])._loop.scheduler.mover
        page = pool.bytes_per_token * pool.page_size  # type: ignore[attr-defined]
    return int(found.kept_pages / len(shape.models) * page / 2)


def _median(runs: list[Measured]) -> Measured:
    middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
    middle.every = [run.seconds for run in runs]
    return middle


def bench(setting: Setting, shapes: Sequence[str] = (), tell: Callable[[str], None] = print
          ) -> dict[str, Any]:  # fmt: skip
    """The shapes asked for (all unless told), each in every mode."""
    chosen = [s for s in SHAPES if (not shapes or s.name in shapes)
              and set(s.models) <= set(setting.models)]  # fmt: skip
    found = [bench_shape(shape, setting, tell) for shape in chosen]
    return {"setting": asdict(setting), "shapes": found, "ratios": ratios(found)}


def ratios(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of every other mode over those of the plan: over 1, the plan is faster."""
    out: dict[str, Any] = {}
    for mode in found[0]["modes"] if found else ():
        each = {
            s["shape"]: s["modes"][mode]["seconds"] / s["modes"]["plan"]["seconds"] for s in found
        }
        logs = [math.log(r) for r in each.values()]
        out[mode] = {"geometric_mean": math.exp(statistics.fmean(logs)), "each": each}
    return out


def table(found: dict[str, Any]) -> str:
    """The result as text: seconds, and how much slower than the plan."""
    modes = [m for m in MODES if found["shapes"] and m in found["shapes"][0]["modes"]]
    lines = ["seconds (times the plan's); outputs of all modes are equal",
             f"{'shape':12}" + "".join(f"{m:>20}" for m in modes)]  # fmt: skip
    for shape in found["shapes"]:
        plan = shape["modes"]["plan"]["seconds"]
        cells = (shape["modes"][m]["seconds"] for m in modes)
        lines.append(
            f"{shape['shape']:12}" + "".join(f"{s:11.2f} ({s / plan:5.2f})" for s in cells)
        )
    means = (found["ratios"][m]["geometric_mean"] for m in modes)
    lines.append(f"{'mean':12}" + "".join(f"{'':11} ({mean:5.2f})" for mean in means))
    for shape in found["shapes"]:
        for mode in (BASELINE, "plan"):
            if mode in shape["modes"]:
                m = shape["modes"][mode]
                lines.append(
                    f"{shape['shape']:12}{mode:>10}: {m['executed']} calls executed, prefill "
                    f"{m['prompt_tokens']:,} asked -> {m['prefill_tokens']:,} computed, "
                    f"{m['generated_tokens']:,} generated, {m['evicted_tokens']:,} evicted"
                )
    return "\n".join(lines)


def random_model(place: Path) -> Path:
    """A llama of 26 M random weights that reads and writes with the demo model's tokenizer."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from plait.engine.models import DEMO

    torch.manual_seed(0)
    vocab = 1373
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=512, intermediate_size=1408, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=4096,
        tie_word_embeddings=True, pad_token_id=0, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(place)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / name, place / name)
    return place
