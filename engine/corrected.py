"""What the first calls of a batch say of the rest: how long answers and tools are, and how much
slower or faster than its costs the machine is just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..dag.estimates import Estimates
from ..dag.logical import Plan
from ..dag.numbering import Row
from .backends.local import LocalBackend
from .history import observed
from .rehearsing import rehearse_on

LEAST_SECONDS = 0.05
"""Of engine time, below which nothing is learned of the machine's speed."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Estimates that have seen some of the batch."""

    estimates: Estimates
    disturbed: float = 1.0
    """Seconds that the engine takes for every second that costs say."""


def corrected(
    backend: LocalBackend, plan: Plan, rows: Sequence[Row | None], stats: Mapping[str, Any],
    step_seconds: float, before: Estimates | None = None,
) -> Corrected:  # fmt: skip
    """Learn from rows that have run: `plan` is theirs, `stats` what they counted, `step_seconds`
    what engine steps took. The same rows are rehearsed with the lengths that they had, so what is
    left is the machine."""
    seen = observed(plan.parts[0].workflow, stats)
    found = replace(before or Estimates(), sample=seen)
    rehearsed = rehearse_on(backend, plan, [rows], found)
    said = sum(rehearsed.busy.values())
    if step_seconds < LEAST_SECONDS or said <= 0:
        return Corrected(found)
    return Corrected(found, step_seconds / said)


def step_seconds(backend: LocalBackend, models: Sequence[str]) -> float:
    """What the steps of these models have taken so far."""
    engines = {id(llm): llm for llm in (backend.llm(alias) for alias in models)}
    return sum(llm.counters().step_seconds for llm in engines.values())
