"""A plan with its price: made with the tokenizer and the costs of the models it will run on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dag.analyze import history
from ..dag.cost import Cost, cost_of
from ..dag.errors import InputError
from ..dag.logical import Plan
from ..dag.nodes import Workflow
from ..dag.numbering import Row
from ..dag.optimize import Observer, unobserved
from ..dag.plan import make_plan
from .backends.local import LocalBackend
from .profiles import measure_of, profile_of
from .rundir import RunDir


@dataclass(frozen=True, slots=True)
class Priced:
    """A plan and, where the models are known, what it will cost."""

    plan: Plan
    cost: Cost | None = None


def price(
    workflow: Workflow, rows: Collection[Row | None], models: Mapping[str, str], *,
    disable: Collection[str] = (), observe: Observer = unobserved, calibrate: bool = False,
    stats: Mapping[str, Any] | None = None,
) -> Priced:  # fmt: skip
    """The plan, priced on these models; without models it is only counted.

    `stats` of an earlier run say how long answers are and how long tools take.
    """
    if not models:
        return Priced(make_plan(workflow, rows, disable=disable, observe=observe))
    with closing(LocalBackend(models)) as backend:
        aliases = workflow.models()
        measure = measure_of(backend, aliases[0], rows) if aliases else None
        plan = make_plan(workflow, rows, disable=disable, observe=observe, measure=measure)
        if plan.prefixes is None:
            return Priced(plan)
        lengths, tools = history(stats, plan) if stats is not None else ({}, {})
        profile = profile_of(
            backend, aliases, calibrate=calibrate, lengths=lengths, tool_seconds=tools
        )
        return Priced(plan, cost_of(plan, profile))


def last_stats(run: Path) -> Mapping[str, Any]:
    """Counters of the last start of a run. Raises InputError when it has none yet."""
    sessions = RunDir(run).read().get("sessions", [])
    if not sessions or "stats" not in sessions[-1]:
        raise InputError(f"{run} holds no finished run: run it first")
    stats: Mapping[str, Any] = sessions[-1]["stats"]
    return stats
