"""An arithmetic word problem as a value, and the arithmetic of its steps.

A step is two operands and an operator; an operand is a number of the text or `#k`, the result of
step k. The stories themselves are told in `stories.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .settings import ADJECTIVES, FILLERS

_SKIP: Final = "|".join((*ADJECTIVES, *FILLERS))
_QUANTITY: Final = re.compile(rf"(\d+) (?:(?:{_SKIP}) )*([a-z]+)")


@dataclass(frozen=True)
class Problem:
    """A story, the question at its end, and the steps and values that solve it."""

    story: str
    question: str
    steps: tuple[str, ...]
    """Expressions such as `12 * 4` and `#1 - 5`; `#k` is the result of step k."""
    values: tuple[int, ...]
    """What each step comes to; the last one is the answer."""

    @property
    def text(self) -> str:
        return f"{self.story} {self.question}".strip()

    @property
    def answer(self) -> int:
        return self.values[-1]

    @property
    def key(self) -> str:
        """The problem without its wording: what may not occur in two splits."""
        return "; ".join(self.steps)

    def worked(self) -> list[str]:
        """The steps with numbers in place of `#k`: `12 * 4`, `48 - 5`."""
        return [substitute(step, self.values) for step in self.steps]


def substitute(step: str, values: Sequence[float]) -> str:
    """Put the results of earlier steps into an expression.

    >>> substitute("#1 - 5", [48])
    '48 - 5'
    """

    def value(reference: re.Match[str]) -> str:
        index = int(reference[1])
        if not 1 <= index <= len(values):
            raise ValueError(f"{reference[0]} refers to no earlier step")
        return str(values[index - 1])

    return re.sub(r"#(\d+)", value, step)


def quantities(text: str) -> list[dict[str, int | str]]:
    """Every number of a text with the noun it counts, adjectives skipped."""
    return [{"value": int(m[1]), "unit": m[2]} for m in _QUANTITY.finditer(text)]


def calculate(expression: str) -> int | float:
    """`12 * 4` is 48; two whole numbers and one operator, anything else is a ValueError."""
    match = re.fullmatch(r"\s*(-?\d+)\s*([-+*/])\s*(-?\d+)\s*", expression)
    if match is None or (match[2] == "/" and int(match[3]) == 0):
        raise ValueError(f"cannot calculate {expression!r}")
    a, b = int(match[1]), int(match[3])
    if match[2] == "/":
        return a // b if a % b == 0 else a / b
    return a + b if match[2] == "+" else a - b if match[2] == "-" else a * b


def run_plan(steps: list[str]) -> int | float:
    """Calculate the steps of a plan in order; the value of the last one."""
    values: list[int | float] = []
    for step in steps:
        values.append(calculate(substitute(step, values)))
    if not values:
        raise ValueError("a plan has at least one step")
    return values[-1]
