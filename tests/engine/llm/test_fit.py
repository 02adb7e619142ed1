"""Costs are one fit: a machine made of known factors is found again from what its steps take."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.engine.llm.calibrate import DECODES, LARGER, PREFILLS, terms
from plait.engine.llm.costs import Costs
from plait.engine.llm.fit import fit

POINTS = (*DECODES, *PREFILLS)
MACHINES = [
    [3e-3, 3e-4, 4e-8, 2e-4, 2e-7],  # a processor
    [9e-3, 1e-5, 5e-10, 4e-6, 3e-9],  # a GPU: every step takes as long as starting it
    [0.0, 1e-4, 1e-9, 1e-4, 1e-7],  # steps cost nothing but what is in them
    [1e-3, 1e-4, 0.0, 0.0, 0.0],
]


def takes(machine: list[float], row: list[float]) -> float:
    return sum(factor * number for factor, number in zip(machine, row, strict=True))


@pytest.mark.parametrize("machine", MACHINES)
def test_factors_are_found_again(machine: list[float]) -> None:
    rows = [terms(point) for point in POINTS]
    found = fit(rows, [takes(machine, row) for row in rows])
    assert found == pytest.approx(machine, rel=1e-6, abs=1e-13)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*(st.floats(low, 30 * low) for low in (1e-3, 1e-5, 1e-9, 1e-5, 1e-9))),
    st.integers(0, 1000),
)
def test_a_step_that_does_both_is_priced_rightly_under_noise(
    machine: tuple[float, ...], seed: int
) -> None:
    rng = random.Random(seed)
    rows = [terms(point) for point in (*POINTS, *LARGER)]
    found = fit(rows, [takes(list(machine), row) * rng.uniform(0.97, 1.03) for row in rows])
    assert min(found) >= 0
    decode, prefill = terms((24, 1, 400)), terms((1, 300, 200))
    both = [1.0, *(a + b for a, b in zip(decode[1:], prefill[1:], strict=True))]
    for row in (decode, prefill, both):
        assert takes(found, row) == pytest.approx(takes(list(machine), row), rel=0.1)


def test_a_step_is_counted_as_costs_count_it() -> None:
    machine = MACHINES[0]
    step, token, token_context, decode_row, kv_token = machine
    costs = Costs(step, token, token_context, decode_row, kv_token)
    assert costs.prefill_seconds(256, 512) == pytest.approx(takes(machine, terms((1, 256, 512))))
    assert costs.decode_seconds(8, 8 * 512) == pytest.approx(takes(machine, terms((8, 1, 512))))


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(1e-4, 10)), min_size=1,
        max_size=12,
    )
)  # fmt: skip
def test_no_factor_is_ever_below_zero_nor_worse_than_a_constant(
    steps: list[tuple[float, float, float]],
) -> None:
    rows, seconds = [[1.0, a, b] for a, b, _ in steps], [s for _, _, s in steps]
    found = fit(rows, seconds)
    assert min(found) >= 0

    def error(factors: list[float]) -> float:
        return sum((takes(factors, r) / s - 1) ** 2 for r, s in zip(rows, seconds, strict=True))

    assert error(found) <= len(steps) + 1e-9
    for constant in seconds:
        assert error(found) <= error([constant, 0.0, 0.0]) + 1e-6


def test_what_falls_with_size_is_a_constant() -> None:
    found = fit([[1.0, n, n * n] for n in (1, 3, 8, 20)], [5, 4, 3, 2])
    assert found[0] > 0 and found[1:] == [0, 0]
