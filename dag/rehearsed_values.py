"""Prompts that the calls of a rehearsal have and values that they give: how long, and which of them
are equal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain

from .imagined import Imagination, Imagined
from .nodes import LLMCall, ToolCall
from .rehearsed_nodes import Nodes
from .template import Template

UNRENDERED = 64
"""Tokens of a prompt that is made by running code."""
GOLDEN = 0.6180339887498949


class Values:
    """Those of a whole rehearsal. Where a call has a `key`, equal ones give equal values."""

    def __init__(self, nodes: Nodes, imagination: Imagination) -> None:
        self._nodes, self._imagination = nodes, imagination
        self._draws: Counter[str] = Counter()

    def prompt(self, node: LLMCall, values: Mapping[str, Imagined]) -> Sequence[int]:
        """Token ids of a call's prompt."""
        if isinstance(node.prompt, Template):
            return self._imagination.prompt(node.prompt, values)
        shown = [list(self._imagination.ids(v)) for v in values.values()]
        code = self._imagination.made_up(("code", node.name), UNRENDERED)
        return [*code, *chain.from_iterable(shown)]

    def answers(self, node: LLMCall, key: Hashable | None, turn: int) -> list[Imagined]:
        """What a call will say, by generation: as long as its operator's answers are."""
        operator = self._nodes.operator(node)
        return [
            Imagined(self._outcome(node, key, (turn, index)), operator.draw(self._place(node.id)))
            for index in range(node.sampling.n)
        ]

    def result(
        self, node: ToolCall, key: Hashable | None, values: Mapping[str, Imagined]
    ) -> Imagined:
        """What a tool will return for these arguments."""
        imagination = self._imagination
        given = sum(map(imagination.length, values.values()))
        size = self._nodes.operator(node).size(given)
        return Imagined(self._outcome(node, key), size / imagination.characters)

    def seconds(self, node: ToolCall) -> float:
        """How long a tool will take."""
        return max(0.0, self._nodes.operator(node).draw(self._place(node.id)))

    def _outcome(self, node: LLMCall | ToolCall, key: Hashable | None, which: Hashable = 0) -> int:
        """The number of a value: one of as many as its operator has been seen to give."""
        imagination, operator = self._imagination, self._nodes.operator(node)
        if math.isfinite(operator.pool):
            drawn = int(self._place(f"value of {node.id}") * operator.pool)
            return imagination.number(("pool", operator.key, drawn))
        return imagination.fresh() if key is None else imagination.number((key, which))

    def _place(self, what: str) -> float:
        """A place among all values of a kind, in 0 to 1, evenly over the calls."""
        self._draws[what] += 1
        return (self._draws[what] * GOLDEN) % 1.0
