"""How long an answer is taken to become before it is there: its room in KV memory is sized by it.

Known from the operator's own answers in this run as soon as a few have come; until then from
earlier runs; else it may take its max_tokens. A guess that is too short costs a request its place
when memory runs out, one that is too long costs others theirs, so what is expected is on the safe
side: the mean and two deviations, which is longer than at least four in five answers whatever their
law (Cantelli) and than 98 % of them if that is normal.
"""

from __future__ import annotations

import math

from .observed import Sketch

FEW = 8
"""Answers of an operator in this run that say more than earlier runs do."""
DEVIATIONS = 2.0


def expected(now: Sketch | None, earlier: Sketch | None, most: int) -> int | None:
    """Tokens of an answer, by those of this run and of earlier ones; None: too few are known."""
    for answers in (now, earlier):
        if answers is not None and answers.count >= FEW:
            longest = math.ceil(answers.mean + DEVIATIONS * answers.deviation)
            return max(1, min(longest, most))
    return None
