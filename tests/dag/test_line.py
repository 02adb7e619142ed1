"""A line through pairs: found where there is one, and nothing said where there is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dag.line import FEW, Line

xs = st.lists(st.integers(0, 10_000), min_size=FEW, max_size=40, unique=True)


def line(pairs: list[tuple[float, float]]) -> Line:
    found = Line()
    for x, y in pairs:
        found.add(x, y)
    return found


@given(xs, st.floats(0.1, 5.0), st.floats(0.0, 1000.0))
def test_a_line_is_found(places: list[int], slope: float, offset: float) -> None:
    found = line([(x, offset + slope * x) for x in places])
    assert found.at(20_000) == pytest.approx(offset + slope * 20_000, rel=1e-3)


@given(xs, xs)
def test_merged_sums_are_one(one: list[int], two: list[int]) -> None:
    pairs = [(float(x), float(x % 7)) for x in (*one, *two)]
    part = line(pairs[: len(one)])
    part.merge(line(pairs[len(one) :]))
    assert part.as_json() == pytest.approx(line(pairs).as_json())


def test_nothing_is_said_where_x_does_not_tell_y_or_little_is_known() -> None:
    assert line([(1, 1), (2, 2), (3, 3)]).at(4) is None
    assert line([(5, 100)] * 9).at(5) is None
    assert line([(x, 100) for x in range(9)]).at(5) is None
    assert line([(x, 100 * (x % 2)) for x in range(10)]).at(5) is None


def test_json_and_back() -> None:
    found = line([(x, 3 * x + 1) for x in range(6)])
    assert Line.of(json.loads(json.dumps(found.as_json()))) == found
    with pytest.raises((TypeError, ValueError)):
        Line.of([1, 2])
