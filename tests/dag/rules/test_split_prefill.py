"""Which beginnings are long, by the values in rows."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from plait import llm, tool, workflow
from plait.dag.logical import Part, Plan
from plait.dag.optimize import optimize
from plait.dag.plan import make_plan
from plait.dag.rules.split_prefill import split_prefill


@tool
def look(text: str) -> str:
    return text


@llm
def answer(page: Any, found: str) -> str:
    return f"{page} {found}"


@workflow
def flow(page: Any) -> str:
    return answer(page, look("x"))


class Unreadable:
    def __str__(self) -> NoReturn:
        raise ValueError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("page", "long"),
    [
        ("few words", False),
        ("many words " * 100, True),
        (["few", {"words": 3}], False),
        ({"pages": [{"text": "many words " * 100}]}, True),
        (list(range(100_000)), True),
        ([[None]] * 3, False),
        (7, False),
        pytest.param(10**6_000, True, id="a number of 6,001 digits"),
        (Unreadable(), True),
        ([1, Unreadable()], True),
    ],
)
def test_a_beginning_is_as_long_as_the_values_in_it(page: Any, long: bool) -> None:
    """A value of a kind that is not known is taken to be long, and never shown."""
    plan = make_plan(flow.workflow, [{"page": page}] * 3)
    (step,) = (step for step in plan.steps if step.id == "answer")
    assert (step.early is not None) == long


def test_a_beginning_is_as_long_as_the_tokens_of_its_model_say() -> None:
    """Where a token is a character and a half, as in Chinese, a fifth of a page is long."""

    def early(page: Any, **measured: Any) -> bool:
        plan = make_plan(flow.workflow, [{"page": page}] * 20, **measured)
        (step,) = (step for step in plan.steps if step.id == "answer")
        return step.early is not None

    page, seen = "蜜蜂用舞蹈告诉同伴花在哪里。" * 10, list[int]()

    def measure(text: str) -> float:
        seen.append(len(text))
        return len(text) / 1.5

    assert not early(page) and early(page, measure=measure)
    assert early({"pages": [{"text": page}]}, measure=measure)
    assert not early(page[:90], measure=measure) and not early(7, measure=measure)
    assert not early(page, measure=lambda text: len(text) / 8)
    seen.clear()
    long = [page * 1_000] * 1_000
    optimize(
        Plan((Part(flow.workflow, 20, [{"page": long}] * 20),), measure=measure), [split_prefill]
    )
    assert 0 < len(seen) <= 17 and max(seen) <= 1_000  # some of the first rows


@pytest.mark.parametrize("given", ["蜜" * 100, "word " * 20])
def test_what_is_written_out_is_measured_too(given: str) -> None:
    @workflow
    def told(topic: str) -> str:
        return answer(given, look(topic))

    rows = [{"topic": "x"}]
    for per_token in (1.0, 4.0):
        plan = make_plan(told.workflow, rows, measure=lambda text, by=per_token: len(text) / by)  # type: ignore[misc]
        (step,) = (step for step in plan.steps if step.id == "answer")
        assert (step.early is not None) == (per_token == 1.0)
