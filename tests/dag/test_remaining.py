"""What is left of a batch: by hand, and that a batch half done has half of its time before it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait import llm, tool, workflow
from plait.dag.plan import make_plan
from plait.dag.remaining import Expected, Made, expected, seconds_left
from plait.dag.workflow import as_workflow

from .test_steps import TWICE, careful, noted_twice


@llm(max_tokens=10)
def ask(text: str) -> str:
    return f"{text}"


@llm(max_tokens=40)
def check(text: str) -> str:
    return f"check {text}"


@workflow
def chain(text: str) -> str:
    return check(ask(text))


PLAN = (Expected("ask", 4, 10), Expected("check", 4, 40))


def test_the_plan_s_calls_equal_ones_once() -> None:
    plan = make_plan(as_workflow(chain), [{"text": t} for t in "aabc"])
    assert expected(plan) == (Expected("ask", 3, 10), Expected("check", 3, 40))


def test_a_call_has_as_many_answers_as_it_asks_for() -> None:
    @llm(max_tokens=10, n=3, temperature=1.0)
    def drafts(text: str) -> list[str]:
        return f"{text}"  # type: ignore[return-value]

    plan = make_plan(as_workflow(drafts), [{"text": "a"}])
    assert expected(plan) == (Expected("drafts", 1, 30),)


def test_nothing_is_said_where_values_decide_or_nothing_has_come() -> None:
    @workflow
    def looped(text: str) -> str:
        return plait.loop(ask, text, max_iters=3, until=good)

    assert expected(make_plan(as_workflow(looped), [{"text": "a"}])) == ()
    assert seconds_left((), {"ask": Made(1, 5)}, 1.0) is None
    assert seconds_left(PLAN, {}, 1.0) is None


@tool(effect="pure")
def good(text: str) -> bool:
    return True


def test_an_operator_that_has_not_answered_answers_like_the_others() -> None:
    # 4 answers of 5 tokens took 1 s: half of max_tokens. So 4 checks of 20 tokens take 4 s.
    found = seconds_left(PLAN, {"ask": Made(4, 20)}, 1.0)
    assert found is not None and sum(found) / 2 == pytest.approx(4.0) and found[0] < 4 < found[1]
    # Checks turn out short: what is left is corrected.
    found = seconds_left(PLAN, {"ask": Made(4, 20), "check": Made(2, 10)}, 1.5)
    assert found is not None and sum(found) / 2 == pytest.approx(0.5)


@given(st.integers(1, 50), st.integers(1, 10))
def test_half_done_is_half_the_time(calls: int, tokens: int) -> None:
    plan = (Expected("ask", 2 * calls, 10),)
    made: dict[str, Any] = {"ask": Made(calls, calls * tokens)}
    found = seconds_left(plan, made, 3.0)
    assert found is not None and found[0] <= 3.0 <= found[1]
    done = seconds_left(plan, {"ask": Made(2 * calls, 2 * calls * tokens)}, 6.0)
    assert done == (0.0, 0.0)


def test_a_workflow_mapped_twice_is_expected_twice() -> None:
    plan = make_plan(noted_twice.workflow, TWICE)
    assert [(e.name, e.calls) for e in expected(plan)] == [
        ("map_note/draft", 1), ("map_note_2/draft", 3),
    ]  # fmt: skip


def test_nothing_is_said_where_a_side_in_a_known_map_may_not_be_taken() -> None:
    @workflow
    def mapped(topics: list[str]) -> list[str]:
        return plait.map(careful, topics)

    assert expected(make_plan(mapped.workflow, [{"topics": ["a", "b"]}])) == ()
