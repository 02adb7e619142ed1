"""Whole batches of agent workflows: the plan beside the same engine without one.

Every mode runs the same rows on an engine of its own with the same model, threads and KV memory,
and an empty cache. Loading and one short generation come before the clock starts; planning is
inside it. Outputs of all modes are compared.

    query-wise        one row after the other                          never a headline
    operator-wise     one operator after the other, all rows of each   never a headline
    asyncio           calls as soon as inputs are there, LRU prefix cache: the honest baseline
    plan              merged calls, rows ordered by prefixes
    known beforehand  what the plan asks of its models, at once: about the least any plan can take
    without X         the plan with one of its optimizations left out

Each shape runs with ample KV memory, then with half of what the baseline left in the cache.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import plait
from plait.dag.errors import ConfigError, list_names
from plait.dag.keys import value_key
from plait.testing import assert_same_rows

from .workflow_runs import AMPLE, BASELINE, MODES, PLAN, QUERY_WISE, Measured, half_of, measure
from .workflow_shapes import SHAPES, Shape

CHEAP = 10.0
"""Seconds: the baseline and the plan run again if their first runs took less."""
ALL_MODES = tuple(dict.fromkeys(mode for modes in MODES.values() for mode in modes))
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all modes of one measurement have in common."""

    models: dict[str, str]
    rows: int | None = None
    """Of every shape; each shape's own number when None."""
    repeats: int = 2
    kv: tuple[str, ...] = tuple(MODES)
    modes: tuple[str, ...] = ALL_MODES


def checked(
    setting: Setting, kv: Sequence[str] | None, modes: Sequence[str] | None,
    shapes: Sequence[str] | None,
) -> Setting:  # fmt: skip
    """The setting with what was asked for. Raises ConfigError for a name that is not known."""
    names = [shape.name for shape in SHAPES]
    for asked, known in ((kv, MODES), (modes, ALL_MODES), (shapes, names)):
        for name in asked or ():
            if name not in known:
                raise ConfigError(f"there is no {name!r} here: known are {list_names(list(known))}")
    return replace(setting, kv=tuple(kv or setting.kv), modes=tuple(modes or setting.modes))


def bench(setting: Setting, shapes: Sequence[str] = (), tell: Tell = print,
          out: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """The shapes asked for (all unless told), each in every mode. `out` is written as it goes."""
    chosen = [s for s in SHAPES if (not shapes or s.name in shapes)
              and set(s.models) <= set(setting.models)]  # fmt: skip
    result: dict[str, Any] = {"setting": asdict(setting), "shapes": [], "ratios": {}}
    for shape in chosen:
        for found in bench_shape(shape, setting, tell):
            result["shapes"].append(found)
            result["ratios"] = {kv: ratios(result["shapes"], kv) for kv in setting.kv}
            if out is not None:
                out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def bench_shape(shape: Shape, setting: Setting, tell: Tell) -> list[dict[str, Any]]:
    """One shape with every size of KV memory."""
    made = shape.rows(setting.rows or shape.batch)
    rows = [{"id": place, **row} for place, row in enumerate(made)]
    found: list[dict[str, Any]] = []
    memory = AMPLE
    for kv in setting.kv:
        if kv == "half":
            memory = _half(shape, rows, setting, found)
        found.append(_bench_memory(shape, rows, setting, kv, memory, tell))
    return found


def _bench_memory(shape: Shape, rows: Sequence[dict[str, Any]], setting: Setting, kv: str,
                  memory: int, tell: Tell) -> dict[str, Any]:  # fmt: skip
    """All modes in turns, so that the machine's moods meet all of them."""
    modes = [mode for mode in MODES[kv] if mode in setting.modes]
    runs: dict[str, list[Measured]] = {mode: [] for mode in modes}
    reference: dict[str | int, plait.Row] = {}
    for turn in range(setting.repeats):
        for mode in modes:
            compared = [runs[m][0].seconds for m in (BASELINE, PLAN) if runs.get(m)]
            if turn and (mode not in (BASELINE, PLAN) or max(compared) > CHEAP):
                continue
            found, done = measure(shape, mode, rows, setting.models, memory)
            for row in done:
                reference.setdefault(row.id, row)
            assert_same_rows([reference[row.id] for row in done], done)
            runs[mode].append(found)
            tell(f"{time.strftime('%H:%M:%S')} {shape.name:11} {len(rows):3} rows  {kv:6}"
                 f"{mode:17} {found.seconds:8.2f} s")  # fmt: skip
    assert all(row.ok for row in reference.values())
    medians = {mode: asdict(_median(of)) for mode, of in runs.items()}
    return {"shape": shape.name, "says": shape.says, "rows": len(rows), "distinct": distinct(rows),
            "kv": kv, "kv_memory": memory, "modes": medians}  # fmt: skip


def distinct(rows: Sequence[dict[str, Any]]) -> int:
    """How many of the rows differ in more than their ids: the calls of the others may be merged."""
    return len({value_key({**row, "id": None}) for row in rows})


def _half(shape: Shape, rows: Sequence[dict[str, Any]], setting: Setting,
          found: Sequence[dict[str, Any]]) -> int:  # fmt: skip
    """Bytes for half of what the baseline with ample memory leaves in the cache."""
    for each in found:
        if each["kv"] == "ample" and BASELINE in each["modes"]:
            return half_of(Measured(**each["modes"][BASELINE]))
    return half_of(measure(shape, BASELINE, rows, setting.models, AMPLE)[0])


def _median(runs: Sequence[Measured]) -> Measured:
    middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
    middle.every = [run.seconds for run in runs]
    middle.seconds = statistics.median(middle.every)
    return middle


def ratios(found: Sequence[dict[str, Any]], kv: str) -> dict[str, Any]:
    """Seconds of every other mode over those of the plan: over 1, the plan is faster."""
    out: dict[str, Any] = {}
    for mode in MODES[kv]:
        each = {
            s["shape"]: s["modes"][mode]["seconds"] / s["modes"][PLAN]["seconds"]
            for s in found
            if s["kv"] == kv and mode in s["modes"] and PLAN in s["modes"]
        }
        if each and mode != PLAN:
            logs = [math.log(r) for r in each.values()]
            out[mode] = {"geometric_mean": math.exp(statistics.fmean(logs)), "each": each}
    return out


def table(found: dict[str, Any]) -> str:
    """The result as text: seconds, how much slower than the plan, and what was computed."""
    lines = ["outputs of all modes are equal"]
    for kv in found["setting"]["kv"]:
        shapes = [s for s in found["shapes"] if s["kv"] == kv]
        modes = [m for m in MODES[kv] if shapes and m in shapes[0]["modes"]]
        if not modes:
            continue
        lines += ["", f"KV memory {kv}: seconds (times the plan's)",
                  f"{'shape':11} rows distinct" + "".join(f"{m:>22}" for m in modes)]  # fmt: skip
        lines += [_seconds(shape, modes) for shape in shapes]
        means = (found["ratios"][kv].get(m, {}).get("geometric_mean") for m in modes)
        shown = (f"{mean:20.2f}x " if mean else " " * 22 for mean in means)
        lines += [f"{'mean':25}" + "".join(shown), ""]
        lines += [_counts(s, m) for s in shapes for m in (BASELINE, PLAN) if m in s["modes"]]
    if QUERY_WISE in found["setting"]["modes"] and "ample" in found["setting"]["kv"]:
        lines += ["", f"~ {QUERY_WISE} is measured on the first rows and continued in a line"]
    return "\n".join(lines)


def _seconds(shape: dict[str, Any], modes: Sequence[str]) -> str:
    cells = []
    plan = shape["modes"].get(PLAN, {}).get("seconds")
    for mode in modes:
        found = shape["modes"][mode]
        about = "~" if found["rows"] < shape["rows"] else ""
        times = f"({found['seconds'] / plan:.2f})" if plan else ""
        cells.append(f"{about + format(found['seconds'], '.2f'):>14} {times:>7}")
    return f"{shape['shape']:11} {shape['rows']:4} {shape['distinct']:8}" + "".join(cells)


def _counts(shape: dict[str, Any], mode: str) -> str:
    m = shape["modes"][mode]
    prefill = f"{m['prompt_tokens']:7,} asked -> {m['prefill_tokens']:6,} computed"
    return (
        f"{shape['shape']:11}{mode:>8}: {m['executed']:5,} calls, prefill {prefill}, "
        f"{m['steps']:4} steps, {m['evicted_tokens']:6,} evicted, {m['preemptions']} preempted"
    )
