"""The longest chain of calls, by hand."""

from __future__ import annotations

from typing import Any

import plait
from plait import llm, workflow
from plait.dag.longest import chain_of
from plait.dag.nodes import LLMCall, Node

from .operators import draft


@llm(max_tokens=4)
def judged(text: str) -> bool:
    return f"Is this good? {text}"  # type: ignore[return-value]


def calls(target: Any) -> tuple[float, tuple[str, ...]]:
    def own(node: Node) -> float:
        return 1.0 if isinstance(node, LLMCall) else 0.0

    weight, nodes = chain_of(target.workflow, own)
    return weight, tuple(n.id for n in nodes if isinstance(n, LLMCall))


def test_a_loop_asks_its_condition_after_every_round() -> None:
    @workflow
    def looped(topic: str) -> str:
        return draft(plait.loop(draft, topic, until=judged, max_iters=5))

    assert calls(looped) == (11.0, ("draft", "judged", "draft"))


def test_a_loop_without_a_condition_is_its_rounds() -> None:
    @workflow
    def looped(topic: str) -> str:
        return plait.loop(draft, topic, max_iters=5)

    assert calls(looped) == (5.0, ("draft",))
