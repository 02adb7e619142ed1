"""Text for the workflow benchmark, made from a seed: words, documents, and rows that repeat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
REPEATS = 0.25
"""Share of the rows that are the same as an earlier one, as in real batches."""
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "wo")


@cache
def text(name: str, words: int) -> str:
    """So many words, always the same for one name."""
    rng = random.Random(name)
    made = ("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(words))
    return " ".join(made)


def documents(shape: str, count: int, words: int) -> list[str]:
    return [text(f"{shape}/document/{i}", words) for i in range(count)]


def questions(shape: str, count: int, words: int = 10) -> list[str]:
    return [text(f"{shape}/question/{i}", words) + "?" for i in range(count)]


def pick(shape: str, count: int, *pools: Sequence[T]) -> list[tuple[T, ...]]:
    """Rows drawn from pools, as they come in: shuffled, and a share of them repeated."""
    rng = random.Random(f"{shape}/rows")
    fresh = [tuple(rng.choice(pool) for pool in pools) for _ in range(count)]
    for i in rng.sample(range(1, count), int(REPEATS * count)) if count > 1 else ():
        fresh[i] = fresh[rng.randrange(i)]
    return fresh


def rows(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(names, value, strict=True)) for value in values]
