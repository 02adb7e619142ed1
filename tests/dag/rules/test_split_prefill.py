"""Which beginnings are long, by the values in rows."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from plait import llm, tool, workflow
from plait.dag.plan import make_plan


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
