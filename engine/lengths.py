"""How long the answers of a run's calls are going to be: `dag/expected.py`, by what the run has
counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dag.estimates import Estimates
from ..dag.expected import expected
from ..dag.observed import Sketch
from .run import Stats

if TYPE_CHECKING:
    from ..dag.nodes import LLMCall


class Lengths:
    """What is expected of the answers of one run."""

    def __init__(self, stats: Stats, known: Estimates) -> None:
        self._stats, self._known = stats, known
        self._before: dict[str, Sketch | None] = {}
        """By the name a node is counted under, its answers in earlier runs."""

    def expected(self, name: str, node: LLMCall) -> int | None:
        """Tokens; None when nothing is known."""
        counted = self._stats.nodes.get(name)
        answers = counted.seen.answers if counted is not None else None
        return expected(answers, self._earlier(name, node), node.sampling.max_tokens)

    def _earlier(self, name: str, node: LLMCall) -> Sketch | None:
        if name not in self._before:
            found = self._known.seen(node)
            self._before[name] = found[0].answers if found is not None else None
        return self._before[name]
