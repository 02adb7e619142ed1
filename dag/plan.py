"""Making a plan: what a workflow will do for these rows, as far as it is known before running.

Counts are exact or absent. Calls whose arguments come from the rows alone are counted distinct by
looking at the rows, once per set of columns; nothing is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from .errors import OutputError
from .explain import Plan, Step, When
from .nodes import (
    Agent,
    Arg,
    Branch,
    Const,
    Fill,
    Input,
    Lit,
    LLMCall,
    Loop,
    Map,
    Node,
    Project,
    Rec,
    Ref,
    Seq,
    ToolCall,
    Workflow,
    refs,
    writes,
)
from .template import Path, Template, path_text, project

__all__ = ["Plan", "Step", "make_plan"]

Row = Mapping[str, Any]
Column = tuple[str, Path]
"""An input and the path taken below it."""


def make_plan(workflow: Workflow, rows: Sequence[Row]) -> Plan:
    """The plan of a workflow for these rows. Rows that lack an input are counted as calls only."""
    steps = tuple(_Planner(workflow, rows, "", "row", len(rows), 0).steps())
    return Plan(workflow.name, len(rows), steps, workflow.models(), workflow.live)


class _Planner:
    """Plans one workflow or body; `rows` is None where its inputs are not known before running."""

    def __init__(
        self, workflow: Workflow, rows: Sequence[Row] | None, prefix: str, when: When,
        calls: int | None, depth: int,
    ) -> None:  # fmt: skip
        self.workflow, self.rows, self.prefix = workflow, rows, prefix
        self.when, self.calls = when, calls
        self.numbers = _numbers(workflow, prefix)
        self.depths: dict[str, int] = {}
        self.start = depth
        self.distinct: dict[tuple[Column, ...], int | None] = {}
        self.certain = _certain(workflow)

    def steps(self) -> Iterator[Step]:
        for node in self.workflow.nodes.values():
            depth = max(
                (self.depths.get(id, self.start) for id in node.needs()), default=self.start
            )
            if isinstance(node, LLMCall | ToolCall):
                depth += 1
            self.depths[node.id] = depth
            if isinstance(node, Project | Const):
                continue
            yield self._step(node, depth)
            for body in self._bodies(node, depth):
                inner = list(body.steps())
                yield from inner
                self.depths[node.id] = max([self.depths[node.id], *(s.depth for s in inner)])

    def _step(self, node: Node, depth: int) -> Step:
        known: dict[str, Any] = {}
        when: When = self.when
        if self.when == "row" and node.id not in self.certain:
            when = "branch"
        if isinstance(node, LLMCall | ToolCall):
            known |= {"calls": self.calls, "distinct": self._distinct(node)}
        if isinstance(node, LLMCall):
            known |= {"model": node.model, "max_tokens": node.sampling.max_tokens}
            if isinstance(node.prompt, Template):
                known["prompt"] = str(node.prompt)
                known["static_prefix"] = len(node.prompt.static_prefix())
        match node:
            case Agent(max_turns=turns):
                known["limit"] = turns
            case ToolCall(tool=tool):
                known["effect"] = tool.effect
            case Map(max_width=width):
                known["limit"] = width
            case Loop(max_iters=most):
                known["limit"] = most
        arguments = ", ".join(f"{name}={self._shown(arg)}" for name, arg in node.args())
        return Step(
            number=self.numbers[node.id], id=node.id, operator=node.operator, arguments=arguments,
            when=when, depth=depth, **known,
        )  # fmt: skip

    def _bodies(self, node: Node, depth: int) -> Iterator[_Planner]:
        number = self.numbers[node.id]
        if isinstance(node, Map):
            yield _Planner(node.body, None, f"{number}.", "item", None, depth)
        if isinstance(node, Loop):
            # Without a condition to end it early, a loop makes all its rounds.
            rounds = self.when == "row" and node.id in self.certain and node.until is None
            calls = self.calls * node.max_iters if rounds and self.calls is not None else None
            yield _Planner(node.body, None, f"{number}.", "round", calls, depth)
            if node.until is not None:
                yield _Planner(node.until, None, f"{number}.until.", "round", None, depth)

    def _shown(self, arg: Arg) -> str:
        match arg:
            case Ref(id):
                node = self.workflow.nodes.get(id)
                if isinstance(node, Project):
                    return self._shown(node.of) + path_text(node.path)
                if isinstance(node, Const):
                    return _value(node.value)
                return f"%{self.numbers[id]}" if node is not None else f"%?{id}"
            case Lit(value):
                return _value(value)
            case Seq(items):
                return f"[{', '.join(map(self._shown, items))}]"
            case Rec(items):
                return "{" + ", ".join(f"{k}: {self._shown(a)}" for k, a in items) + "}"
            case Fill(text, bound):
                return f"{_value(str(text))}({', '.join(self._shown(a) for _, a in bound)})"

    # -- distinct calls ------------------------------------------------------------------------

    def _distinct(self, node: LLMCall | ToolCall) -> int | None:
        """How many different arguments the rows give it; None when other nodes have a say."""
        if self.rows is None or node.id not in self.certain:
            return None
        found = {c for _, arg in node.bound for id in refs(arg) for c in self._columns(id)}
        if None in found:
            return None
        columns = tuple(sorted((c for c in found if c is not None), key=repr))
        if columns not in self.distinct:
            self.distinct[columns] = _count(self.workflow, self.rows, columns)
        return self.distinct[columns]

    def _columns(self, id: str) -> Iterator[Column | None]:
        """The columns a value is made of; None for one that is computed."""
        node = self.workflow.nodes.get(id)
        match node:
            case Input():
                yield id, ()
            case Project(of=of, path=path):
                for inner in refs(of):
                    for column in self._columns(inner):
                        yield column and (column[0], (*column[1], *path))
            case Const():
                return
            case _:
                yield None


def _numbers(workflow: Workflow, prefix: str) -> dict[str, str]:
    shown = (n.id for n in workflow.nodes.values() if not isinstance(n, Project | Const))
    return {id: f"{prefix}{i}" for i, id in enumerate(shown, 1)}


def _certain(workflow: Workflow) -> set[str]:
    """Nodes that run for every row: those not needed by one side of a branch alone."""
    nodes = workflow.nodes
    needed = {id for node in nodes.values() for id in node.needs()}
    stack = [*refs(workflow.output)]
    stack += [n.id for n in nodes.values() if writes(n) and n.id not in needed]
    seen: set[str] = set()
    while stack:
        id = stack.pop()
        if id in seen or id not in nodes:
            continue
        seen.add(id)
        node = nodes[id]
        stack += refs(node.condition) if isinstance(node, Branch) else node.needs()
    return seen


def _count(workflow: Workflow, rows: Sequence[Row], columns: Sequence[Column]) -> int | None:
    inputs = {i.id: i for i in workflow.inputs}
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        try:
            values = (project(row.get(name, inputs[name].default), path) for name, path in columns)
            seen.add(tuple(v if type(v) is str else (_canonical(v),) for v in values))
        except (OutputError, PydanticSerializationError, ValueError, TypeError):
            return None  # a row that will fail: its calls cannot be known
    return len(seen)


def _canonical(value: Any) -> str:
    """One text per value. Order of keys counts, as it shows in prompts."""
    if value is ...:
        raise TypeError("an input is missing")
    return json.dumps(to_jsonable_python(value), ensure_ascii=False, separators=(",", ":"))


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
