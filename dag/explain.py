"""A plan as a value, and as the text that `explain` prints.

It says what is known before running and nothing more: how often each node runs, how many of its
calls are distinct, which text its prompts share. `make_plan` in `plan.py` works it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .nodes import Effect

When = Literal["row", "branch", "item", "round"]
"""How often a node runs: for every row, for rows that take its side of a branch, for every item of
a map (or item of an item), for every round of a loop."""

SHOWN = 96


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a plan."""

    number: str
    """Its place: `3`, or `3.1` inside the body of node 3."""
    id: str
    operator: str
    arguments: str
    """As written in the plan: `topic=%1, names=%3.names`."""
    when: When
    calls: int | None = None
    """LLM or tool calls it makes over all rows; None when values decide. For `branch` the most."""
    distinct: int | None = None
    """How many of those differ; None when its arguments are not known before running."""
    depth: int = 0
    """LLM and tool calls on the longest path up to and including this node."""
    model: str | None = None
    max_tokens: int | None = None
    prompt: str | None = None
    """The prompt's template; None when it is made at run time."""
    static_prefix: int | None = None
    """Characters before the first slot: the part every call has in common."""
    effect: Effect | None = None
    """Effect of the tool it calls."""
    limit: int | None = None
    """Most turns of an agent, items of a map, rounds of a loop."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run for these rows. `print(plan)` explains it."""

    workflow: str
    rows: int
    steps: tuple[Step, ...]
    """Nodes in the order of the workflow, bodies behind the node they belong to."""
    models: tuple[str, ...]
    """Aliases of the models to load."""
    live: bool = False
    """An `async def` workflow: what it calls is known only when it runs."""

    @property
    def depth(self) -> int:
        """LLM and tool calls on the critical path; a body counts once."""
        return max((step.depth for step in self.steps), default=0)

    def calls(self, tools: bool = False) -> tuple[int, bool]:
        """LLM (or tool) calls known so far, and whether values at run time decide the rest."""
        steps = [s for s in self.steps if (s.effect if tools else s.model) is not None]
        unknown = (s.calls is None or s.when == "branch" or s.operator == "Agent" for s in steps)
        open_ended = self.live or any(unknown)
        return sum(s.calls or 0 for s in steps if s.when != "branch"), open_ended

    def to_json(self) -> str:
        """The plan as it stands in `plan.json`."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def as_dict(self) -> dict[str, Any]:
        """The plan in JSON values, without fields that say nothing."""
        steps = [{k: v for k, v in asdict(s).items() if v is not None} for s in self.steps]
        totals: dict[str, Any] = {"depth": self.depth}
        for name, tools in (("llm_calls", False), ("tool_calls", True)):
            totals[name], totals[f"{name}_open"] = self.calls(tools)
        return {
            "workflow": self.workflow, "rows": self.rows, "live": self.live,
            "models": list(self.models), "totals": totals, "steps": steps,
        }  # fmt: skip

    def __str__(self) -> str:
        return explain(self)


def explain(plan: Plan) -> str:
    """The plan as text for a terminal."""
    lines = [f"workflow {plan.workflow}: {_count(plan.rows, 'row')}"]
    shown: dict[str, str] = {}
    for step in plan.steps:
        indent = "  " * (step.number.count(".") + 1)
        head = "" if step.operator == "Input" else f"({step.arguments})"
        lines.append(f"{indent}%{step.number} = {step.operator} {step.id}{head}")
        told = ", ".join(_told(step))
        if told:
            lines.append(f"{indent}     {told}")
        if step.prompt:
            first = shown.setdefault(step.prompt, step.number)
            text = _short(step.prompt) if first == step.number else f"as in %{first}"
            lines.append(f"{indent}     prompt: {text}")
    if plan.live:
        lines.append("  a live program: its calls are known only when it runs")
    lines.append("total: " + ", ".join(_totals(plan)))
    return "\n".join(lines)


def _told(step: Step) -> Iterator[str]:
    if step.model is not None:
        yield f"model {step.model}, at most {step.max_tokens} tokens"
    if step.effect is not None:
        yield f"{step.effect} tool"
    if step.limit is not None:
        unit = {"Agent": "turn", "Map": "item"}.get(step.operator, "round")
        yield f"at most {_count(step.limit, unit)}"
    if step.model is not None or step.effect is not None:
        yield _calls(step)
    if step.distinct is not None:
        yield f"{step.distinct} distinct"
    if step.static_prefix:
        yield f"{_count(step.static_prefix, 'character')} shared in front"


def _calls(step: Step) -> str:
    unit = "conversation" if step.operator == "Agent" else "call"
    if step.when == "branch" and step.calls is not None:
        return f"at most {_count(step.calls, unit)}"
    return _count(step.calls, unit) if step.calls is not None else f"1 {unit} per {step.when}"


def _totals(plan: Plan) -> Iterator[str]:
    for unit, tools in (("LLM call", False), ("tool call", True)):
        known, open_ended = plan.calls(tools)
        if known or open_ended:
            more = " and more as values decide" if open_ended else ""
            yield _count(known, unit) + more
    yield f"{_count(plan.depth, 'call')} deep"
    yield f"models {', '.join(plan.models)}" if plan.models else "no model"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
