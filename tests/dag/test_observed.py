"""What runs have shown: sketches against sorted lists, pools against draws, JSON there and back."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dag.observed import GROWTH, REMEMBERED, Observed, Sketch

numbers = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=200)


@given(numbers, st.floats(0.01, 1.0))
def test_a_quantile_is_that_of_the_sorted_list(values: list[float], share: float) -> None:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    exact = sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]
    assert exact / GROWTH <= sketch.quantile(share) <= exact * GROWTH
    assert sketch.mean == pytest.approx(sum(values) / len(values))


@given(numbers, numbers)
def test_merged_sketches_are_one_sketch(one: list[float], two: list[float]) -> None:
    parts, whole = (Sketch(), Sketch()), Sketch()
    for part, values in zip(parts, (one, two), strict=True):
        for value in values:
            part.add(value)
            whole.add(value)
    parts[0].merge(parts[1])
    assert parts[0].counts == whole.counts and parts[0].count == whole.count
    assert parts[0].total == pytest.approx(whole.total)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_draws_have_the_mean_of_what_was_seen(values: list[int]) -> None:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    places = 2_000
    drawn = [sketch.draw((i + 0.5) / places) for i in range(places)]
    assert sum(drawn) / places == pytest.approx(sketch.mean, rel=0.02)


def test_what_never_varies_is_drawn_exactly() -> None:
    sketch = Sketch()
    for _ in range(5):
        sketch.add(48)
    assert sketch.draw(0.1) == sketch.draw(0.9) == 48
    assert Sketch().quantile(0.5) == Sketch().draw(0.5) == 0.0


@pytest.mark.parametrize("size", [3, 20, 100])
def test_the_pool_is_found_from_the_values_that_repeat(size: int) -> None:
    rng = random.Random(size)
    found = []
    for _ in range(40):
        observed = Observed()
        for _ in range(2 * size):
            observed.value(f"value {rng.randrange(size)}")
        found.append(observed.pool)
    assert sorted(found)[20] == pytest.approx(size, rel=0.25)


def test_values_that_never_repeat_are_drawn_from_no_pool() -> None:
    observed = Observed()
    assert observed.pool == math.inf
    for i in range(REMEMBERED + 10):
        observed.value(f"{i}")
    assert observed.pool == math.inf and observed.different == REMEMBERED
    always = Observed()
    for _ in range(9):
        always.value("one")
    assert always.pool == pytest.approx(1.0, abs=0.01)


def test_nodes_of_one_run_are_added_up_and_of_other_runs_the_larger_one_tells() -> None:
    one, two = Observed(), Observed()
    for i in range(6):
        one.value("x" * 10 + f"{i}", given=5)
        two.value("y" * 30 + f"{i}", given=25)
    both, later = Observed(), Observed()
    for node in (one, two):
        both.join(node)
        later.merge(node)
    assert both.sizes.mean == 21 and both.different == both.sizes.count == 12
    assert both.growth.at(15) == pytest.approx(21)
    assert later.sizes.mean == 31 and later.different == 6


def test_json_and_back() -> None:
    observed = Observed()
    for i in range(6):
        observed.answers.add(10 + i)
        observed.seconds.add(0.0 if i == 0 else 0.1 * i)
        observed.value("same" if i < 3 else f"{i}", given=i)
    again = Observed.of(json.loads(json.dumps(observed.as_json())))
    assert again == observed and again.pool == observed.pool
    assert Observed.of({}) == Observed() and Observed().as_json() == {}
    with pytest.raises((KeyError, TypeError, ValueError)):
        Observed.of({"answers": {"counts": "?"}})


def test_shares_say_how_many_are_no_larger() -> None:
    sketch = Sketch()
    for number in (0.0, 1.0, 1.0, 30.0):
        sketch.add(number)
    shares = sketch.shares()
    assert [share for _, share in shares] == [0.25, 0.75, 1.0]
    for number, (end, _) in zip((0.0, 1.0, 30.0), shares, strict=True):
        assert number <= end <= max(number * 1.1, 1e-6)
    assert Sketch().shares() == []
