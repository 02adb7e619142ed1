"""Plans as values: what workflows will do for their rows. Rules rewrite them.

A plan holds no object per task: a node has one array of numbers for all rows (see `numbering`), so
a plan of 50,000 rows is a few arrays.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .explain import explain
from .known import NOTHING, Known, Made
from .nodes import Workflow
from .numbering import Numbered, Numbering, Row
from .numbers import Column
from .repeatable import OWN, Names
from .steps import Step, steps_of

if TYPE_CHECKING:
    from .placement import Placement
    from .prefixes import Prefixes
    from .trials import Trials


@dataclass(frozen=True, slots=True)
class Part:
    """One workflow and its rows."""

    workflow: Workflow
    rows: int
    source: Collection[Row | None] = field(repr=False, compare=False)
    """The rows themselves, gone through once per pass; None stands for one that cannot be read."""
    numbered: Numbered | None = None
    """Numbers of all values, by node and row; see `with_numbers`."""
    classes: Mapping[str, Column] | None = None
    """Node id -> the class of its task in every row: tasks of one class do the same work. Holds
    the nodes whose tasks may be merged; None when they are not."""
    order: Column | None = None
    """Positions of the rows in the order they had better start; None as they come."""


@dataclass(frozen=True)
class Plan:
    """What will run for these rows. `print(plan)` explains it."""

    parts: tuple[Part, ...]
    """The workflows that run together, each with its rows."""
    uses: Column = field(default_factory=lambda: array("i"))
    """By class: how many tasks ask for it, over all parts; 0 for numbers that are no class."""
    prefixes: Prefixes | None = None
    """What the prompts begin with in common."""
    numbering: Numbering | None = field(default=None, repr=False, compare=False)
    """Only while rules run: it knows values of rows, and a plan shall not keep them."""
    measure: Callable[[str], float] | None = field(default=None, repr=False, compare=False)
    """Tokens of a text; None counts characters."""
    memory: float | None = None
    """Tokens that KV memory holds; None when that is not known."""
    names: Names = field(default_factory=lambda: OWN, repr=False, compare=False)
    """By alias, the one that stands for its model."""
    known: Known = field(default_factory=lambda: NOTHING, repr=False, compare=False)
    """Only while rules run: tool calls that have been made already."""
    called: tuple[Made, ...] = ()
    """Of those, the ones whose values stand in the place of their nodes."""
    rules: tuple[str, ...] = ()
    """Rules that were applied."""
    placement: Placement | None = None
    """Which models stand on which workers; None where there is one worker."""
    trials: Trials | None = None
    """What other orders of rows would take; None where none was tried."""

    @property
    def workflow(self) -> str:
        """The name of the workflow, of several joined by `+`."""
        return " + ".join(part.workflow.name for part in self.parts)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def live(self) -> bool:
        """Whether an `async def` workflow is among them: its calls are known only when it runs."""
        return any(part.workflow.live for part in self.parts)

    @property
    def models(self) -> tuple[str, ...]:
        """Aliases of the models to load."""
        return tuple(dict.fromkeys(m for part in self.parts for m in part.workflow.models()))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Nodes in the order of the workflows, bodies behind the node they belong to."""
        return tuple(steps_of(self))

    @property
    def depth(self) -> int:
        """LLM and tool calls on the critical path; a body counts once."""
        return max((step.depth for step in self.steps), default=0)

    def calls(self, tools: bool = False) -> tuple[int, bool]:
        """LLM (or tool) calls known so far, and whether values at run time decide the rest."""
        steps = [s for s in self.steps if (s.effect if tools else s.model) is not None]
        grows = ("Agent", "PlanAndRun")
        unknown = (s.calls is None or s.when == "branch" or s.operator in grows for s in steps)
        open_ended = self.live or any(unknown)
        return sum(s.calls or 0 for s in steps if s.when != "branch"), open_ended

    def merged_calls(self, tools: bool = False) -> int:
        """What is left of `calls` once equal ones are made only once."""
        steps = (s for s in self.steps if (s.effect if tools else s.model) is not None)
        certain = (s for s in steps if s.when != "branch")
        return sum((s.calls if s.merged is None else s.merged) or 0 for s in certain)

    def to_json(self) -> str:
        """The plan as it stands in `plan.json`."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def as_dict(self) -> dict[str, Any]:
        """The plan in JSON values, without fields that say nothing."""
        totals: dict[str, Any] = {"depth": self.depth}
        for name, tools in (("llm_calls", False), ("tool_calls", True)):
            totals[name], totals[f"{name}_open"] = self.calls(tools)
            totals[f"{name}_merged"] = self.merged_calls(tools)
        if self.prefixes is not None:
            totals["prefill"] = self.prefixes.as_dict()
        placed = {"placement": self.placement.as_dict()} if self.placement is not None else {}
        tried = {"order": self.trials.as_dict()} if self.trials is not None else {}
        called = {"called": [made.as_dict() for made in self.called]} if self.called else {}
        return {
            "workflow": self.workflow, "rows": self.rows, "live": self.live,
            "models": list(self.models), "rules": list(self.rules), "totals": totals,
            "steps": [step.as_dict() for step in self.steps], **tried, **called,
            **placed,
        }  # fmt: skip

    def __str__(self) -> str:
        return explain(self)


def positions(part: Part) -> Sequence[int]:
    """The part's rows in the order they had better start."""
    return part.order if part.order is not None else range(part.rows)


def with_numbers(plan: Plan) -> Plan:
    """The plan with the numbers of all values, worked out once the nodes are final."""
    numbering = plan.numbering
    if numbering is None or all(part.numbered is not None for part in plan.parts):
        return plan
    return replace(plan, parts=tuple(_numbered(part, numbering) for part in plan.parts))


def _numbered(part: Part, numbering: Numbering) -> Part:
    if part.workflow.live:
        return replace(part, numbered=Numbered(part.rows, {}))
    columns = numbering.read(part.workflow.inputs, part.source)
    return replace(part, numbered=numbering.number(part.workflow, columns, part.rows))
