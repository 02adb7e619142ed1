"""A workflow prepared for execution: what waits for what, worked out once and used for every row.

Nodes run on demand. What the output needs (and every `write` tool that nothing else needs) is
demanded from the start; what only one side of a branch needs is demanded when that side is taken,
so the other side never runs. Counting what each demanded node still waits for is all the
bookkeeping a row has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import cached_property
from itertools import islice

from ..dag.arg import Arg, refs
from ..dag.demand import goals, needed_first
from ..dag.estimates import Estimates
from ..dag.nodes import (
    Agent,
    Branch,
    Const,
    Input,
    LLMCall,
    Loop,
    Map,
    Node,
    Project,
    ToolCall,
    Workflow,
)
from ..dag.sampling import Sampling
from ..dag.template import Template
from .values import constrain

NOT_DEMANDED = -1
TOKENS_PER_SECOND = 32.0
"""What a second of a tool counts on a chain of work, in generated tokens: about what one row of a
full batch gets. It only says which of two chains of one row is longer, for which a factor of two
seldom matters, and asks no clock."""
TOOL_LENGTH = TOKENS_PER_SECOND
"""What a tool counts of which nothing is known: a second."""


class Kind(IntEnum):
    """How a node is executed."""

    GIVEN = 0
    """Known from the start: inputs and constants."""
    PROJECT = 1
    BRANCH = 2
    WORK = 3
    """Takes time: runs as a task of its own."""


class Wiring:
    """The static part of executing one workflow body."""

    def __init__(self, workflow: Workflow, known: Estimates | None = None) -> None:
        """`known`: how long answers and tools are expected to take."""
        self.workflow, self._known = workflow, known or Estimates()
        self.nodes: tuple[Node, ...] = tuple(workflow.nodes.values())
        self.index = {node.id: i for i, node in enumerate(self.nodes)}
        self.kinds = tuple(_kind(node) for node in self.nodes)
        self.constants = {n.id: n.value for n in self.nodes if isinstance(n, Const)}
        self.wants = tuple(self._open(needed_first(node)) for node in self.nodes)
        feeds: list[list[int]] = [[] for _ in self.nodes]
        for i, wanted in enumerate(self.wants):
            for w in wanted:
                feeds[w].append(i)
        self.feeds = tuple(map(tuple, feeds))
        self.goals = self._open(goals(workflow))
        """What a run must complete."""
        self.waiting, self.ready = self._demand_from_start()

    def _open(self, ids: Iterable[str]) -> tuple[int, ...]:
        """Indices of those nodes that are not given."""
        found = dict.fromkeys(self.index[id] for id in ids)
        return tuple(i for i in found if self.kinds[i] is not Kind.GIVEN)

    def open_refs(self, arg: Arg) -> tuple[int, ...]:
        """Indices of the nodes an argument needs and that a run must compute."""
        return self._open(refs(arg))

    def _demand_from_start(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        waiting = [NOT_DEMANDED] * len(self.nodes)
        stack = list(self.goals)
        while stack:
            i = stack.pop()
            if waiting[i] == NOT_DEMANDED:
                waiting[i] = len(self.wants[i])
                stack += self.wants[i]
        return tuple(waiting), tuple(i for i, count in enumerate(waiting) if count == 0)

    @cached_property
    def splits(self) -> dict[int, tuple[int, ...]]:
        """Calls whose prompts are begun early, and the nodes whose values that takes."""
        found: dict[int, tuple[int, ...]] = {}
        for i, node in enumerate(self.nodes):
            if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
                if node.early is None:
                    continue
                names = {slot.name for slot in islice(node.prompt.slots(), node.early)}
                found[i] = self._open(
                    id for name, arg in node.bound if name in names for id in refs(arg)
                )
        return found

    @cached_property
    def samplings(self) -> dict[str, Sampling]:
        """Sampling settings of every LLM call, with the constraint its type asks for."""
        return {
            n.id: n.sampling if isinstance(n, Agent) else constrain(n)
            for n in self.nodes if isinstance(n, LLMCall)
        }  # fmt: skip

    @cached_property
    def bodies(self) -> dict[str, Wiring]:
        """Wirings of the bodies of maps and loops, by node id; of conditions by `id:until`."""
        found = {n.id: Wiring(n.body, self._known) for n in self.nodes if isinstance(n, Map | Loop)}
        for n in self.nodes:
            if isinstance(n, Loop) and n.until is not None:
                found[f"{n.id}:until"] = Wiring(n.until, self._known)
        return found

    # -- chains --------------------------------------------------------------------------------

    @cached_property
    def ahead(self) -> dict[str, float]:
        """By node, the longest chain of work from its start to the output, in generated tokens."""
        return {id: behind + self._lengths[id] for id, behind in self.behind.items()}

    @cached_property
    def behind(self) -> dict[str, float]:
        """The same from its end on."""
        found = dict.fromkeys(self.index, 0.0)
        for node in reversed(self.nodes):  # those that need a node stand behind it
            chain = found[node.id] + self._lengths[node.id]
            for id in node.needs():
                found[id] = max(found[id], chain)
        return found

    @cached_property
    def _lengths(self) -> dict[str, float]:
        """What every node adds to a chain."""
        return {node.id: _length(node, self.bodies, self._known) for node in self.nodes}

    @cached_property
    def length(self) -> float:
        """The longest chain of the whole body."""
        return max(self.ahead.values(), default=0.0)

    def learn(self, known: Estimates) -> None:
        """Work out chains anew, by what is known now."""
        self._known = known
        for name in ("ahead", "behind", "length", "_lengths"):
            self.__dict__.pop(name, None)
        for body in self.bodies.values():
            body.learn(known)

    def prepare(self) -> Wiring:
        """Work out everything now, so that mistakes show before the first row runs."""
        assert self.samplings is not None and self.splits is not None
        assert self.length >= 0.0
        for body in self.bodies.values():
            body.prepare()
        return self


def _kind(node: Node) -> Kind:
    match node:
        case Input() | Const():
            return Kind.GIVEN
        case Project():
            return Kind.PROJECT
        case Branch():
            return Kind.BRANCH
    return Kind.WORK


def _length(node: Node, bodies: Mapping[str, Wiring], known: Estimates) -> float:
    """What a node adds to a chain: what is expected of it, or the most it may take. Most, too,
    where values decide; a map's items run at once."""
    match node:
        case Agent(max_turns=turns):
            return known.answer(node).mean * turns
        case LLMCall():
            return known.answer(node).mean
        case ToolCall():
            took = known.tool(node)
            return TOOL_LENGTH if took.known == "limit" else took.mean * TOKENS_PER_SECOND
        case Map():
            return bodies[node.id].length
        case Loop(max_iters=rounds):
            return bodies[node.id].length * rounds
    return 0.0
