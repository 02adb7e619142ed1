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
    found, begun = 0.0, [iter(values)]
    for _ in range(most):
        while begun and (one := next(begun[-1], END)) is END:
            begun.pop()
        if not begun:
            return Size(found, True)
        characters, inside = _size(one)
        found += characters
        if inside is not None:
            begun.append(inside)
    return Size(found, False)


def _size(one: Any) -> tuple[float, Iterator[Any] | None]:
    """Characters of a value without those in it, and these."""
    match one:
        case str():
            return str.__len__(one), None
        case list():
            return 2 * list.__len__(one), list.__iter__(one)
        case tuple():
            return 2 * tuple.__len__(one), tuple.__iter__(one)
        case dict():
            inside = chain(dict.__iter__(one), dict.values(one))
            return 2 * dict.__len__(one), inside
    if type(one) is int:
        return 1 + one.bit_length() * log10(2), None  # Python makes no text of the longest
    return (len(str(one)) if type(one) in NUMBERS else UNKNOWN), None
