"""Batches predicted and run, and what both say together.

Reported are the error of every prediction, whether seconds lie in the range told, and of all pairs
of runs (of one shape, and of any two) the share that is ranked rightly. Pairs whose actual seconds
differ by less than `TIE` are too close to be told apart by a clock, and are counted apart.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

TIE = 0.05
"""Share by which seconds differ from one run to the next."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One batch, predicted and run."""

    shape: str
    way: str
    rows: int
    predicted: float
    actual: float
    low: float
    high: float
    """Between which it was predicted to lie."""
    steps: tuple[int, int]
    """Engine steps, predicted and actual; so are those that follow."""
    prefill: tuple[int, int]
    generated: tuple[int, int]

    @property
    def error(self) -> float:
        """Of the seconds: 0.1 is 10 % too many."""
        return self.predicted / self.actual - 1


def summary(found: Sequence[Compared]) -> dict[str, Any]:
    """Errors of the plans' seconds and of all, and how many pairs are ranked rightly."""
    plans = [abs(f.error) for f in found if f.way == "plan"]
    every = [abs(f.error) for f in found]
    same = [(a, b) for a, b in itertools.combinations(found, 2) if a.shape == b.shape]
    return {
        "plan": _errors(plans), "all": _errors(every),
        "in_range": sum(f.low <= f.actual <= f.high for f in found) / max(1, len(found)),
        "ranked": {"one shape": ranked(same), "any two": ranked(itertools.combinations(found, 2))},
        "counts": {
            name: statistics.median(_off(*getattr(f, name)) for f in found) if found else None
            for name in ("steps", "prefill", "generated")
        },
    }  # fmt: skip


def ranked(pairs: Iterator[tuple[Compared, Compared]] | Sequence[tuple[Compared, Compared]]
           ) -> dict[str, Any]:  # fmt: skip
    """Pairs in the right order, of those that a clock can tell apart."""
    right = wrong = close = 0
    for one, other in pairs:
        if abs(one.actual - other.actual) < TIE * max(one.actual, other.actual):
            close += 1
        elif (one.predicted < other.predicted) == (one.actual < other.actual):
            right += 1
        else:
            wrong += 1
    share = right / (right + wrong) if right + wrong else None
    return {"right": right, "wrong": wrong, "too_close": close, "share": share}


def _errors(errors: Sequence[float]) -> dict[str, float] | None:
    return {"median": statistics.median(errors), "worst": max(errors)} if errors else None


def _off(predicted: int, actual: int) -> float:
    return abs(predicted / actual - 1) if actual else 0.0


def table(found: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{'shape':12}{'way':20}{'rows':>5}{'predicted':>11}{'actual':>9}{'error':>8}"
             f"{'steps':>14}{'prefill':>16}{'generated':>16}"]  # fmt: skip
    for run in found["runs"]:
        counts = (f"{run[n][0]:,} / {run[n][1]:,}" for n in ("steps", "prefill", "generated"))
        steps, prefill, generated = counts
        lines.append(
            f"{run['shape']:12}{run['way']:20}{run['rows']:5}{run['predicted']:9.2f} s"
            f"{run['actual']:7.2f} s{run['error']:+8.0%}{steps:>14}{prefill:>16}{generated:>16}"
        )
    for name in ("plan", "all"):
        if found[name]:
            median, worst = found[name]["median"], found[name]["worst"]
            lines.append(f"error of seconds, {name}: {median:.1%} median, {worst:.1%} worst")
    told = ", ".join(f"{name} {off:.1%}" for name, off in found["counts"].items())
    lines.append(f"median error of counts: {told}")
    lines.append(f"seconds in the range told: {found['in_range']:.0%}")
    for name, pairs in found["ranked"].items():
        if pairs["share"] is not None:
            of = pairs["right"] + pairs["wrong"]
            lines.append(f"pairs of {name} ranked rightly: {pairs['share']:.1%} of {of}"
                         f" ({pairs['too_close']} too close to tell)")  # fmt: skip
    return "\n".join(lines)
