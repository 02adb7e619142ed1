"""How much values hold is known without a text of them, and without looking at all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dag.size import UNKNOWN, size_of, texts_in

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


class Pair(NamedTuple):
    one: str
    two: str


class Willful(list[str]):
    """It has code of its own."""

    def __iter__(self) -> NoReturn:
        raise ValueError("no items")

    __len__ = __str__ = __repr__ = __iter__


@given(st.lists(values))
def test_it_is_about_as_long_as_its_text(held: list[Any]) -> None:
    size, text = size_of([held], 10_000), len(json.dumps(held, ensure_ascii=False))
    assert size.whole and text / 8 - 2 <= size.characters <= 2 * text


@given(st.lists(values), st.integers(0, 20))
def test_no_more_values_are_looked_at(held: list[Any], most: int) -> None:
    size, all_of_it = size_of(held, most), size_of(held, 10_000)
    assert size.characters <= all_of_it.characters
    assert not size.whole or size == all_of_it


def test_what_never_ends_does() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert not size_of(endless, 100).whole
    assert size_of(repeat("ab"), 100).characters == 200


@pytest.mark.parametrize(
    ("value", "characters"),
    [
        ("word", 4), (Pair("ab", "cd"), 8), ({"a": ["b", 10]}, 11), (Willful(["ab"]), 4),
        (object(), UNKNOWN), (None, 4), pytest.param(10**6_000, 6_001, id="a long number"),
    ],
)  # fmt: skip
def test_no_code_of_a_value_runs(value: Any, characters: float) -> None:
    def once() -> Iterator[Any]:
        yield value

    assert size_of(once(), 100).characters == pytest.approx(characters, abs=3)


def test_texts_are_found_wherever_they_are_and_nothing_is_made_one() -> None:
    rows = ["a", {"b": ["c", 10**5_000, Willful(["d"])]}, ("e", None)]
    assert list(texts_in(rows, 100)) == ["a", "b", "c", "d", "e"]
    assert list(texts_in(rows, 1)) == ["a"] and list(texts_in(repeat("x"), 3)) == ["x"] * 3
