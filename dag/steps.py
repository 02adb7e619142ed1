"""The steps of a plan: its nodes in order, with what is known of each before running.

Counts are exact or absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from .arg import Arg, Fill, Lit, Rec, Ref, Seq
from .demand import certain
from .errors import in_short
from .names import counted_name
from .nodes import (
    Agent,
    Const,
    Effect,
    LLMCall,
    Loop,
    Map,
    Node,
    PlanAndRun,
    Project,
    ToolCall,
    Workflow,
)
from .numbering import Numbered
from .repeatable import work_key
from .template import Template, path_text

if TYPE_CHECKING:
    from .logical import Plan
    from .prefixes import LeafCost

When = Literal["row", "branch", "item", "round"]
"""How often a node runs: for every row, for rows (or items, or rounds) that take its side of a
branch, for every item of a map (or item of an item), for every round of a loop."""


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a plan."""

    number: str
    """Its place: `3`, or `3.1` inside the body of node 3; `2:3` in the second of several
    workflows."""
    id: str
    name: str
    """Under which a run counts it: `id`, behind those of the bodies it is in."""
    operator: str
    arguments: str
    """As written in the plan: `topic=%1, names=%3.names`."""
    when: When
    calls: int | None = None
    """LLM or tool calls it makes over all rows; None when values decide. For `branch` the most."""
    distinct: int | None = None
    """How many of those differ; None when nothing is known of its arguments before running."""
    merged: int | None = None
    """Calls it still makes when equal ones, its own and those of nodes before it, are made once."""
    same_as: str | None = None
    """The number of the node before it that makes all of its calls."""
    depth: int = 0
    """LLM and tool calls on the longest path up to and including this node."""
    model: str | None = None
    max_tokens: int | None = None
    prompt: str | None = None
    """The prompt's template; None when it is made at run time."""
    static_prefix: int | None = None
    """Characters before the first slot: the part every call has in common."""
    prefill_asked: int | None = None
    """Prompt tokens of its calls, about; None when its prompts cannot be known before running."""
    prefill_computed: int | None = None
    """Of those, what is left when equal calls and prefixes are computed once."""
    early: str | None = None
    """The slot up to which its prompts are computed before they are whole."""
    ahead: bool | None = None
    """Its tool may be called before its turn."""
    effect: Effect | None = None
    """Effect of the tool it calls."""
    limit: int | None = None
    """Most turns of an agent, items of a map, rounds of a loop."""

    def as_dict(self) -> dict[str, Any]:
        """In JSON values, without fields that say nothing."""
        known = {k: v for k, v in asdict(self).items() if v is not None}
        return {k: v for k, v in known.items() if k != "name" or v != self.id}


def steps_of(plan: Plan) -> Iterator[Step]:
    """Nodes in the order of the workflows, bodies behind the node they belong to."""
    seen: dict[int, str] = {}
    leaves = plan.prefixes.leaves if plan.prefixes is not None else ()
    for number, part in enumerate(plan.parts, 1):
        prefix = f"{number}:" if len(plan.parts) > 1 else ""
        numbered = part.numbered if part.classes is not None else None
        walker = _Walker(part.workflow, numbered, seen, prefix, "row", part.rows, 0)
        walker.leaves = {leaf.name: leaf for leaf in leaves if leaf.part == number - 1}
        yield from walker.steps()


class _Walker:
    """Goes through one workflow or body. `calls` is how often it runs, None when values decide."""

    def __init__(
        self, workflow: Workflow, numbered: Numbered | None, seen: dict[int, str], prefix: str,
        when: When, calls: int | None, depth: int, merged: int | None = None,
        way: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.workflow, self.numbered, self.prefix, self.way = workflow, numbered, prefix, way
        self.seen = seen
        """Calls that are made, by number: the node that makes them."""
        self.merged = merged
        """How often it runs at most once equal runs are one, where its own values are not known."""
        self.when, self.calls = when, calls
        self.numbers = _numbers(workflow, prefix)
        self.leaves: Mapping[str, LeafCost] = {}
        """Prompt tokens of LLM nodes, by the names under which a run counts them."""
        self.depths: dict[str, int] = {}
        self.start = depth
        self.certain = certain(workflow)

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
                body.leaves = self.leaves
                inner = list(body.steps())
                yield from inner
                self.depths[node.id] = max([self.depths[node.id], *(s.depth for s in inner)])

    def _step(self, node: Node, depth: int) -> Step:
        known: dict[str, Any] = {}
        name = counted_name(self.way, node.id)
        when: When = self.when
        if self.calls is not None and node.id not in self.certain:
            when = "branch"
        if isinstance(node, LLMCall | ToolCall):
            known = {"calls": self.calls, **self._merging(node)}
        if isinstance(node, LLMCall):
            known |= {"model": node.model, "max_tokens": node.sampling.max_tokens}
            leaf = self.leaves.get(name)
            if leaf is not None:
                known["prefill_asked"] = round(leaf.asked)
                known["prefill_computed"] = round(leaf.computed)
            if isinstance(node.prompt, Template):
                known["prompt"] = str(node.prompt)
                known["static_prefix"] = len(node.prompt.static_prefix())
                if node.early is not None:
                    known["early"] = str(next(islice(node.prompt.slots(), node.early, None)))
        match node:
            case PlanAndRun(max_tasks=tasks):
                known["limit"] = tasks
            case Agent(max_turns=turns):
                known["limit"] = turns
            case ToolCall(tool=tool):
                known["effect"] = tool.effect
                known["ahead"] = node.ahead or None
            case Map(max_width=width):
                known["limit"] = width
            case Loop(max_iters=most):
                known["limit"] = most
        arguments = ", ".join(f"{name}={self._shown(arg)}" for name, arg in node.args())
        return Step(
            number=self.numbers[node.id], id=node.id, name=name, operator=node.operator,
            arguments=arguments, when=when, depth=depth, **known,
        )  # fmt: skip

    def _merging(self, node: Node) -> dict[str, Any]:
        """How many of the node's calls differ, and how many no node before it makes."""
        if self.numbered is None and self.merged is not None:
            return {"merged": self.merged}
        if self.numbered is None or work_key(node) is None or node.id not in self.numbered.columns:
            return {}
        numbers = set(self.numbered.columns[node.id])
        makers = {self.seen.get(number) for number in numbers}
        new = sum(number not in self.seen for number in numbers)
        if node.id in self.certain:  # a side of a branch may never make its calls
            for number in numbers:
                self.seen.setdefault(number, self.numbers[node.id])
        found: dict[str, Any] = {"distinct": len(numbers), "merged": new}
        if len(makers) == 1 and None not in makers:
            found["same_as"] = makers.pop()
        return found

    def _bodies(self, node: Node, depth: int) -> Iterator[_Walker]:
        number, way = self.numbers[node.id], (*self.way, node.id)
        if isinstance(node, Map):
            body = self.numbered.bodies.get(node.id) if self.numbered is not None else None
            # Lists that are the rows' own are known, and with them how often the body runs.
            calls = body.rows if body is not None and node.id in self.certain else None
            inner = body if calls is not None else None
            yield _Walker(node.body, inner, self.seen, f"{number}.", "item", calls, depth, way=way)
        if isinstance(node, Loop):
            # Without a condition to end it early, a loop makes all its rounds.
            rounds = self.when == "row" and node.id in self.certain and node.until is None
            calls = self.calls * node.max_iters if rounds and self.calls is not None else None
            left = self._merging(node).get("merged") if calls is not None else None
            left = left * node.max_iters if left is not None else None
            prefix = f"{number}."
            yield _Walker(node.body, None, self.seen, prefix, "round", calls, depth, left, way)
            if node.until is not None:
                prefix, way = f"{number}.until.", (*way, "until")
                yield _Walker(node.until, None, self.seen, prefix, "round", None, depth, way=way)

    def _shown(self, arg: Arg) -> str:
        match arg:
            case Ref(id):
                node = self.workflow.nodes.get(id)
                if isinstance(node, Project):
                    return self._shown(node.of) + path_text(node.path)
                if isinstance(node, Const):
                    return in_short(node.value)
                return f"%{self.numbers[id]}" if node is not None else f"%?{id}"
            case Lit(value):
                return in_short(value)
            case Seq(items):
                return f"[{', '.join(map(self._shown, items))}]"
            case Rec(items):
                return "{" + ", ".join(f"{k}: {self._shown(a)}" for k, a in items) + "}"
            case Fill(text, bound):
                return f"{in_short(str(text))}({', '.join(self._shown(a) for _, a in bound)})"


def _numbers(workflow: Workflow, prefix: str) -> dict[str, str]:
    shown = (n.id for n in workflow.nodes.values() if not isinstance(n, Project | Const))
    return {id: f"{prefix}{i}" for i, id in enumerate(shown, 1)}
