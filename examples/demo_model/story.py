"""A story in the making, and the numbers and words that it is made of."""

import random
from dataclasses import dataclass, field
from typing import Final

from .problems import substitute
from .settings import LINKS, Setting

LIMIT: Final = 2000


class Dead(Exception):
    """This story cannot go on within the limits; another is tried."""


@dataclass
class Story:
    """A story in the making: sentences so far, steps so far, and where the running total stands."""

    rng: random.Random
    setting: Setting
    name: str
    pronoun: str
    other: str
    unit: str
    sentences: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    ref: str = ""
    total: int = 0

    def say(self, sentence: str, a: int = 0, b: int = 0, link: bool = False) -> None:
        text = (self.rng.choice(LINKS) if link else "") + sentence
        text = text.format(N=self.name, M=self.other, p=self.pronoun, U=self.unit, a=a, b=b)
        self.sentences.append(text[0].upper() + text[1:])

    def step(self, left: str, operator: str, right: str) -> str:
        """Add a step and return its reference; `Dead` if its value leaves 1..LIMIT."""
        a, b = (int(substitute(operand, self.values)) for operand in (left, right))
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if a % b == 0 else 0}[operator]
        if not 0 < value <= LIMIT:
            raise Dead
        self.steps.append(f"{left} {operator} {right}")
        self.values.append(value)
        return f"#{len(self.steps)}"

    def change(self, operator: str, right: str) -> None:
        self.move(self.step(self.ref, operator, right))

    def move(self, ref: str) -> None:
        self.ref = ref
        self.total = int(substitute(ref, self.values))


def number(rng: random.Random) -> int:
    """Mostly small: a small model can learn sums of those, and long problems stay hard."""
    size = rng.random()
    return rng.randint(2, 20 if size < 0.5 else 99 if size < 0.85 else 400)


def factor(rng: random.Random) -> int:
    return rng.randint(2, 9) if rng.random() < 0.85 else rng.randint(10, 15)


def each(rng: random.Random) -> tuple[int, int]:
    """A number of groups and how many are in each."""
    return factor(rng), rng.randint(2, 12 if rng.random() < 0.75 else 40)


def invent(rng: random.Random) -> str:
    """A word that no list has, so that words are copied and not remembered."""
    parts = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))]
    return "".join(parts)
