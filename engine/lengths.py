"""How long the answers and tools of a run are going to be, by what the run has counted.

The room of an answer follows its operator's answers at once (`dag/expected.py`). Which call of a
row goes first is worked out anew when enough is known of more operators.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..dag.estimates import Estimates, operator_key
from ..dag.expected import FEW, expected
from ..dag.names import named_nodes
from ..dag.nodes import LLMCall, ToolCall
from ..dag.observed import Observed, Sketch
from .run import Stats

if TYPE_CHECKING:
    from .wiring import Wiring

MORE = 1.25
"""Operators of which enough is known, over those at the last time, for chains to be worked out
anew: so a workflow of a thousand nodes is gone through some thirty times, not a thousand."""


class Lengths:
    """What is expected of the calls of one run."""

    def __init__(self, stats: Stats, known: Estimates) -> None:
        self.known = known
        """What earlier runs have shown, and what this one has."""
        self._stats = stats
        self._before: dict[str, Sketch | None] = {}
        """By the name a node is counted under, its answers in earlier runs."""
        self._enough: set[str] = set()
        """Nodes of which this run has shown enough, by that name."""
        self._next = 1.0

    def expected(self, name: str, node: LLMCall) -> int | None:
        """Tokens of an answer; None when nothing is known."""
        counted = self._stats.nodes.get(name)
        answers = counted.seen.answers if counted is not None else None
        return expected(answers, self._earlier(name, node), node.sampling.max_tokens)

    def counted(self, name: str, wiring: Wiring) -> None:
        """A task of a run with this wiring has been counted under that name."""
        if name in self._enough or (counted := self._stats.nodes.get(name)) is None:
            return
        if max(counted.seen.answers.count, counted.seen.seconds.count) < FEW:
            return
        self._enough.add(name)
        if len(self._enough) >= self._next:
            self._next = max(len(self._enough) + 1, len(self._enough) * MORE)
            self.known = replace(self.known, sample=self._seen(wiring))
            wiring.learn(self.known)

    def _seen(self, wiring: Wiring) -> dict[str, Observed]:
        """What this run has shown of its operators."""
        found: dict[str, Observed] = {}
        for name, node in named_nodes(wiring.workflow):
            if name in self._enough and isinstance(node, LLMCall | ToolCall):
                model = self.known.names.get(node.model) if isinstance(node, LLMCall) else None
                seen = found.setdefault(operator_key(node, model), Observed())
                seen.join(self._stats.nodes[name].seen)
        return found

    def _earlier(self, name: str, node: LLMCall) -> Sketch | None:
        if name not in self._before:
            found = replace(self.known, sample={}).seen(node)
            self._before[name] = found[0].answers if found is not None else None
        return self._before[name]
