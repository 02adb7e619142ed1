"""How much values hold, for those who must know it before they do anything with them.

No more than so many values are looked at, none is made a text of, and no code of their own runs:
they may be long, and it may fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import log10
from typing import Any

UNKNOWN = 256.0
"""Characters taken for a value whose length nothing tells."""
NUMBERS = (float, bool, type(None))
END = object()


@dataclass(frozen=True, slots=True)
class Size:
    """How much values hold."""

    characters: float
    """As text, about, of those that were looked at."""
    whole: bool
    """Whether all of them were, with what is in them."""


def size_of(values: Iterable[Any], most: int) -> Size:
    """The size of values and of those in them, at most so many of which are looked at."""
    found, looked = 0.0, 0
    for one in _each(values, most):
        found, looked = found + _characters(one), looked + 1
    return Size(found, looked < most)


def texts_in(values: Iterable[Any], most: int) -> Iterator[str]:
    """The texts among values and those in them, at most so many of which are looked at."""
    return (str.__str__(one) for one in _each(values, most) if isinstance(one, str))


def _each(values: Iterable[Any], most: int) -> Iterator[Any]:
    """Values and those in them, the first so many."""
    begun = [iter(values)]
    for _ in range(most):
        while begun and (one := next(begun[-1], END)) is END:
            begun.pop()
        if not begun:
            return
        yield one
        match one:
            case list():
                begun.append(list.__iter__(one))
            case tuple():
                begun.append(tuple.__iter__(one))
            case dict():
                begun.append(chain(dict.__iter__(one), dict.values(one)))


def _characters(one: Any) -> float:
    """Characters of a value without those in it."""
    match one:
        case str():
            return str.__len__(one)
        case list():
            return 2 * list.__len__(one)
        case tuple():
            return 2 * tuple.__len__(one)
        case dict():
            return 2 * dict.__len__(one)
    if type(one) is int:
        return 1 + one.bit_length() * log10(2)  # Python makes no text of the longest
    return len(str(one)) if type(one) in NUMBERS else UNKNOWN
