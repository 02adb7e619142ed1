"""The longest chain of calls, by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plait
from plait import llm, workflow
from plait.dag.longest import critical_path
from plait.dag.plan import make_plan
from plait.dag.profile import Profile

from .operators import draft


@llm(max_tokens=4)
def judged(text: str) -> bool:
    return f"Is this good? {text}"  # type: ignore[return-value]


@dataclass(frozen=True)
class Costs:
    """Only prompts take time, unless told otherwise."""

    step: float = 0.0
    token: float = 1.0
    token_context: float = 0.0
    decode_row: float = 0.0
    kv_token: float = 0.0
    kv_bytes: int = 1
    load: float = 0.0


def path(target: Any, row: dict[str, Any], costs: Costs) -> tuple[tuple[str, ...], float]:
    profile = Profile({"default": costs}, lengths={"draft": 1.0, "judged": 1.0})
    path, seconds, _ = critical_path(make_plan(target.workflow, [row], measure=len), profile)
    return path, seconds


def calls(target: Any) -> tuple[tuple[str, ...], float]:
    return path(target, {"topic": "a"}, Costs(step=1.0, token=0.0))


def test_a_loop_asks_its_condition_after_every_round() -> None:
    @workflow
    def looped(topic: str) -> str:
        return draft(plait.loop(draft, topic, until=judged, max_iters=5))

    assert calls(looped) == (("draft", "judged", "draft"), 11.0)


def test_a_loop_without_a_condition_is_its_rounds() -> None:
    @workflow
    def looped(topic: str) -> str:
        return plait.loop(draft, topic, max_iters=5)

    assert calls(looped) == (("draft",), 5.0)


def test_nodes_of_one_name_have_each_its_own_prompts() -> None:
    @workflow
    def alone(topic: str) -> str:
        return draft(topic)

    @workflow
    def both(topic: str) -> list[object]:
        return [draft(topic), plait.map(draft, ["b"])]

    row = {"topic": "a long one" * 9}
    assert path(both, row, Costs()) == path(alone, row, Costs())
