"""Making a plan: the workflows as written, then every rule in `rules/`, each checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from .known import NOTHING, Known
from .logical import Part, Plan
from .nodes import Workflow
from .numbering import Numbering, Row
from .optimize import Observer, optimize, unobserved
from .repeatable import OWN, Names
from .steps import Step

__all__ = ["Part", "Plan", "Row", "Step", "make_plan", "plan_together"]


def make_plan(
    workflow: Workflow, rows: Collection[Row | None] = (), *,
    disable: Collection[str] = (), observe: Observer = unobserved,
    measure: Callable[[str], float] | None = None, memory: float | None = None,
    known: Known = NOTHING, names: Names = OWN,
) -> Plan:  # fmt: skip
    """The plan of a workflow for these rows. Of `rows` only their number and an iterator are asked.

    `disable` names rules to leave out; raises ConfigError for a name that no rule has. `measure`
    counts the tokens of a text; without it they are guessed from its characters. `memory` is how
    many tokens KV memory holds, if that is known: it decides how far apart rows may share. `known`
    are tool calls that somebody has made already (planning makes none), by key. `names` says which
    aliases are one model, by the first of them; those left out are a model of their own.
    """
    return plan_together(
        [(workflow, rows)], disable=disable, observe=observe, measure=measure, memory=memory,
        known=known, names=names,
    )  # fmt: skip


def plan_together(
    batches: Iterable[tuple[Workflow, Collection[Row | None]]], *,
    disable: Collection[str] = (), observe: Observer = unobserved,
    measure: Callable[[str], float] | None = None, memory: float | None = None,
    known: Known = NOTHING, names: Names = OWN,
) -> Plan:  # fmt: skip
    """One plan for several workflows, each with its rows, that will run at the same time."""
    parts = tuple(Part(workflow, len(rows), rows) for workflow, rows in batches)
    start = Plan(
        parts, numbering=Numbering(names), measure=measure, memory=memory, names=names, known=known
    )
    plan = optimize(start, disable=disable, observe=observe)
    parts = tuple(replace(part, source=()) for part in plan.parts)
    return replace(plan, numbering=None, known=NOTHING, parts=parts)
