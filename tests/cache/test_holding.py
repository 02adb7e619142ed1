"""How long a conversation is kept: against trying every moment, and in words with numbers."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.cache.holding import Times, after, hold_for


def law(durations: list[float]) -> Times:
    """The times of calls, each equally likely."""
    ordered = sorted(durations)
    return [(t, (i + 1) / len(ordered)) for i, t in enumerate(ordered)]


durations = st.lists(st.floats(0.001, 100), min_size=1, max_size=8)


@given(st.lists(durations, min_size=1, max_size=3), st.floats(0, 50), st.floats(0.001, 5))
def test_no_other_moment_would_have_paid_more(
    tools: list[list[float]], recompute: float, price: float
) -> None:
    found = hold_for([law(tool) for tool in tools], recompute, price)

    def worth(t: float) -> float:
        back = 1.0
        for tool in tools:
            back *= sum(d <= t for d in tool) / len(tool)
        return back * recompute - price * t

    best = max([0.0, *(worth(d) for tool in tools for d in tool)])
    assert worth(found.seconds) == pytest.approx(best, abs=1e-9)
    assert found.seconds <= recompute / price * (1 + 1e-9)


def test_the_long_tail_is_not_waited_for() -> None:
    """Nine in ten take a quarter of a second, one takes a minute: the mean is six seconds."""
    found = hold_for([law([0.25] * 9 + [60.0])], recompute=2.0, price=1.0)
    assert found.seconds == 0.25 and found.back == pytest.approx(0.9)
    assert str(found) == (
        "kept for 0.25 s: 90% are back by then, having it again takes 2 s, keeping it 1 s/s"
    )
    assert str(hold_for([law([60.0])], 2.0, 1.0)).startswith("not kept: having it again takes 2")


def test_memory_that_costs_little_is_kept_longer() -> None:
    times = law([0.25] * 9 + [60.0])
    assert hold_for([times], recompute=2.0, price=0.001).seconds == 60.0


def test_of_several_tools_the_slowest_decides() -> None:
    assert hold_for([law([1.0]), law([3.0])], recompute=5.0, price=1.0).seconds == 3.0
    assert hold_for([law([1.0]), law([9.0])], recompute=5.0, price=1.0).seconds == 0.0


@given(st.floats(0.01, 50), st.floats(0.001, 5), st.floats(0, 200))
def test_unknown_tools_cost_at_most_twice_the_least(
    recompute: float, price: float, took: float
) -> None:
    for awaited in ([], [()], [law([1.0]), ()]):
        hold = hold_for(awaited, recompute, price).seconds
        paid = price * took if took <= hold else price * hold + recompute
        least = min(price * took, recompute)
        assert paid <= 2 * least * (1 + 1e-9) + 1e-9
    assert hold_for([], 1.0, 0.0).seconds == inf


def test_a_call_that_has_gone_on_for_long_is_judged_by_those_that_did() -> None:
    times = law([1.0, 1.0, 5.0, 9.0])
    assert after(times, 0.0) == times
    assert after(times, 2.0) == [(3.0, 0.5), (7.0, 1.0)]
    assert after(times, 10.0) == ()
