"""How long the answer of a call is going to be: its room in KV memory is sized by it.

Known from the operator's own answers in this run as soon as a few have come; until then from
earlier runs; else it may take its max_tokens. A guess that is too short costs a request its place
when memory runs out, one that is too long costs others theirs, so what is expected is on the safe
side: the mean and two deviations, which is longer than at least four in five answers whatever their
law (Cantelli) and than 98 % of them if that is normal.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..dag.estimates import Estimates
from ..dag.observed import Sketch
from .run import Stats

if TYPE_CHECKING:
    from ..dag.nodes import LLMCall

FEW = 8
"""Answers of an operator in this run that say more than earlier runs do."""
DEVIATIONS = 2.0


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
        if answers is None or answers.count < FEW:
            answers = self._earlier(name, node)
        if answers is None:
            return None
        longest = math.ceil(answers.mean + DEVIATIONS * answers.deviation)
        return max(1, min(longest, node.sampling.max_tokens))

    def _earlier(self, name: str, node: LLMCall) -> Sketch | None:
        if name not in self._before:
            found = self._known.seen(node)
            enough = found is not None and found[0].answers.count >= FEW
            self._before[name] = found[0].answers if found is not None and enough else None
        return self._before[name]
