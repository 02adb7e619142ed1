"""What a rehearsal works out once of every node, however many rows come to it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from .arg import Arg, refs
from .demand import goals, needed_first
from .estimates import Estimates, Operator
from .imagined import Imagination
from .nodes import LLMCall, Node, ToolCall, Workflow
from .repeatable import Names, work_args, work_key
from .template import Template


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a node before any of its values is there."""

    needs: tuple[str, ...]
    """Nodes whose values it takes to begin."""
    early: frozenset[str]
    """Names of the slots in the part of its prompt that may be begun before."""
    begins: tuple[str, ...]
    """Nodes whose values these slots show."""
    work: int | None
    """Equal for equal work; None for what is never equal."""
    args: tuple[Arg, ...]
    """Whose values tell equal work apart."""


class Nodes:
    """The nodes of one plan, which lives longer than this."""

    def __init__(self, estimates: Estimates, imagination: Imagination, names: Names) -> None:
        self._estimates, self._imagination, self._names = estimates, imagination, names
        self._known: dict[int, Known] = {}
        self._operators: dict[int, Operator] = {}
        self._goals: dict[int, tuple[str, ...]] = {}

    def goals(self, body: Workflow) -> tuple[str, ...]:
        """Nodes that a run of a body must complete."""
        if id(body) not in self._goals:
            self._goals[id(body)] = goals(body)
        return self._goals[id(body)]

    def known(self, node: Node) -> Known:
        if id(node) not in self._known:
            self._known[id(node)] = self._look(node)
        return self._known[id(node)]

    def operator(self, node: LLMCall | ToolCall) -> Operator:
        """What is expected of its calls."""
        if id(node) not in self._operators:
            self._operators[id(node)] = self._estimates.operator(node)
        return self._operators[id(node)]

    def _look(self, node: Node) -> Known:
        work = work_key(node, self._names)
        number = self._imagination.number(("work", work)) if work is not None else None
        early, begins = frozenset[str](), tuple[str, ...]()
        if isinstance(node, LLMCall) and node.early is not None:
            assert isinstance(node.prompt, Template)
            early = frozenset(slot.name for slot in islice(node.prompt.slots(), node.early))
            shown = (arg for name, arg in node.bound if name in early)
            begins = tuple(dict.fromkeys(id for arg in shown for id in refs(arg)))
        args = tuple(arg for _, arg in work_args(node))
        return Known(needed_first(node), early, begins, number, args)
