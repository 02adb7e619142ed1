"""The longest chain of calls, by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plait
from plait import llm, tool, workflow
from plait.dag.explain import told_cost
from plait.dag.longest import critical_path
from plait.dag.plan import make_plan
from plait.dag.pricing import cost_of
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
    offload: float = 1e9
    restore: float = 1e9
    matmul_peak: float = 0.0


PROFILE = Profile(
    {"default": Costs(kv_token=1.0)}, loaded=frozenset({"default"}),
    lengths={"solved": 4.0, "answered": 4.0},
)  # fmt: skip


def path(target: Any, row: dict[str, Any], costs: Costs) -> tuple[tuple[str, ...], float]:
    lengths = {"draft": 1.0, "judged": 1.0, "solved": 4.0}
    profile = Profile({"default": costs}, lengths=lengths)
    found = critical_path(make_plan(target.workflow, [row], measure=len), profile)
    return found.names, found.seconds


def calls(target: Any) -> tuple[tuple[str, ...], float]:
    return path(target, {"topic": "a"}, Costs(step=1.0, token=0.0))


def test_a_loop_asks_its_condition_after_every_round() -> None:
    @workflow
    def looped(topic: str) -> str:
        return draft(plait.loop(draft, topic, until=judged, max_iters=5))

    assert calls(looped) == (
        ("loop_draft/draft", "loop_draft/until/judged", "draft"), 11.0,
    )  # fmt: skip


def test_a_loop_without_a_condition_is_its_rounds() -> None:
    @workflow
    def looped(topic: str) -> str:
        return plait.loop(draft, topic, max_iters=5)

    assert calls(looped) == (("loop_draft/draft",), 5.0)


@tool(effect="pure")
def look(name: str) -> str:
    return name


@plait.agent(tools=[look], max_turns=3)
def solved(text: str) -> str:
    return f"Solve {text}"


@plait.agent(tools=[look], max_turns=1)
def answered(text: str) -> str:
    return f"Solve {text}"


def test_an_agent_has_its_turns_one_after_the_other_as_in_a_rehearsal() -> None:
    @workflow
    def agents(topic: str) -> str:
        return draft(solved(topic))

    assert calls(agents) == (("solved", "draft"), 2 * 4.0 + 1.0)
    plan = make_plan(agents.workflow, [{"topic": "a"}], measure=len)
    cost = cost_of(plan, Profile({"default": Costs(step=1.0)}, lengths={"solved": 4, "draft": 1}))
    assert cost.agents and cost.decode_steps == cost.decode_tokens == 9.0
    assert "s without what its agents call: solved -> draft" in told_cost(cost)


def test_a_later_turn_reads_what_was_said_and_computes_none_of_it_again() -> None:
    @workflow
    def agents(topic: str) -> str:
        return solved(topic)

    @workflow
    def alone(topic: str) -> str:
        return answered(topic)

    plain = cost_of(make_plan(alone.workflow, [{"topic": "a"}], measure=len), PROFILE)
    cost = cost_of(make_plan(agents.workflow, [{"topic": "a"}], measure=len), PROFILE)
    prompt = plain.prefill_tokens
    assert cost.prefill_tokens == prompt and plain.decode_tokens == 4.0
    assert plain.path_seconds == prompt + 4 * (prompt + 2)
    assert cost.path_seconds == prompt + 4 * (prompt + 2) + 4 * (prompt + 4 + 2)


def test_nodes_of_one_name_have_each_its_own_prompts() -> None:
    @workflow
    def alone(topic: str) -> str:
        return draft(topic)

    @workflow
    def both(topic: str) -> list[object]:
        return [draft(topic), plait.map(draft, ["b"])]

    row = {"topic": "a long one" * 9}
    assert path(both, row, Costs()) == path(alone, row, Costs())


def test_calls_in_bodies_have_the_names_that_a_run_counts_them_by() -> None:
    @workflow
    def mapped(topic: str) -> list[str]:
        return plait.map(draft, [draft(topic)])

    assert calls(mapped) == (("draft", "map_draft/draft"), 2.0)
