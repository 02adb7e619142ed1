"""Drills: rows of sums without a story, so that most of what is learned from them is arithmetic.

A word problem spends a hundred tokens on three sums. A drill spends them on ten. They are for
training only; evaluation has none.
"""

import random
from collections.abc import Iterator

from .items import Item, ask
from .tasks import Draw, lines, reply

MOST = 10


def make_drills(seed: int = 0) -> Iterator[Item]:
    """Drills without end, of sums of the training split, in the words of the `solve` role."""
    rng = random.Random(f"{seed}/drills")
    draw = Draw(rng, "train")
    while True:
        sums = [draw.problem(1, plain=1.0) for _ in range(rng.randint(3, MOST))]
        text = " ".join(problem.question for problem in sums)
        worked = "\n".join(lines(problem) for problem in sums)
        answer = str(sums[-1].answer)
        messages = (*ask("solve", text), reply(f"{worked}\n#### {answer}"))
        key = "; ".join(problem.key for problem in sums)
        yield Item("solve", key, len(sums), messages, answer)
