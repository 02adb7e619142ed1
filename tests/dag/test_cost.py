"""The cost model: hand-computed cases, and that it moves the way the machine does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait import llm, tool, workflow
from plait.dag.analyze import analysis, compare, history
from plait.dag.cost import Cost
from plait.dag.explain import told_cost
from plait.dag.longest import critical_path
from plait.dag.placement_demand import seconds_of
from plait.dag.plan import Plan, make_plan
from plait.dag.pricing import cost_of
from plait.dag.profile import Profile
from plait.dag.rehearsed import Rehearsed, Tasks
from plait.dag.serving import Used
from plait.dag.workflow import as_workflow


@dataclass(frozen=True)
class Flat:
    """Costs that make sums easy."""

    step: float = 0.01
    token: float = 0.001
    token_context: float = 0.0
    decode_row: float = 0.002
    kv_token: float = 0.0
    kv_bytes: int = 100
    load: float = 3.0
    offload: float = 1e9
    restore: float = 1e9
    matmul_peak: float = 0.0


PROFILE = Profile({"default": Flat(), "big": Flat(step=0.1)}, loaded=frozenset({"default"}))


@llm(max_tokens=10)
def ask(text: str) -> str:
    return f"{text}"


@llm(max_tokens=20, model="big")
def big(text: str) -> str:
    return f"{text}"


@tool(effect="pure")
def look(text: str) -> str:
    return text


@workflow
def chain(text: str) -> str:
    return ask(ask(text))


def plan_of(target: Any, rows: list[dict[str, Any]]) -> Plan:
    return make_plan(as_workflow(target), rows, measure=len)


def test_one_call_by_hand() -> None:
    # 8 tokens around the message and the answer's opening, and 6 of text; 10 to generate.
    cost = cost_of(plan_of(ask, [{"text": "abcdef"}]), PROFILE)
    assert cost.prefill_tokens == 14 and cost.decode_tokens == 10 and cost.decode_steps == 10
    assert cost.prefill_seconds == pytest.approx(0.014)
    assert cost.decode_seconds == pytest.approx(10 * (0.01 + 0.002))
    assert cost.seconds == pytest.approx(0.134) and cost.bound == "decode" and cost.loads == ()
    assert cost.kv_bytes == 2400 and not cost.certain


def several(n: int) -> Any:
    """A call of so many generations."""

    @llm(max_tokens=10, n=n, temperature=1.0)
    def drafts(text: str) -> list[str]:
        return f"{text}"  # type: ignore[return-value]

    return drafts


def test_the_generations_of_a_call_share_its_prompt_and_its_steps() -> None:
    row = [{"text": "abcdef"}]
    plan, profile = plan_of(several(4), row), Profile({"default": Flat(kv_token=0.0001)})
    found = cost_of(plan, profile)
    assert found.prefill_tokens == 14 and found.decode_tokens == 40 and found.decode_steps == 10
    read = 10 * (14 + 4 * 10 / 2)
    assert found.decode_seconds == pytest.approx(10 * 0.01 + 40 * 0.002 + read * 0.0001)
    assert found.path_seconds == pytest.approx(0.014 + found.decode_seconds)
    assert plan.prefixes is not None
    assert seconds_of(plan.prefixes.leaves[0], profile) == pytest.approx(found.path_seconds)
    assert cost_of(plan, replace(profile, running=2)).decode_steps == 20
    assert compare(plan, None, {"nodes": {}})[0]["predicted"] == (1, 14, 40)


@given(st.integers(2, 63), st.integers(1, 80), st.floats(1, 10))
def test_a_call_costs_more_with_more_generations(n: int, running: int, length: float) -> None:
    profile = replace(PROFILE, running=running, lengths={"drafts": length})
    plans = [plan_of(several(more), [{"text": "a"}, {"text": "b"}]) for more in (n, n + 1)]
    less, more = (cost_of(plan, profile) for plan in plans)
    assert less.seconds < more.seconds and less.prefill_tokens == more.prefill_tokens
    assert less.decode_tokens == pytest.approx(2 * n * length)


def test_rows_share_steps_but_not_rows_in_steps() -> None:
    rows = [{"text": f"row {i}"} for i in range(5)]
    cost = cost_of(plan_of(ask, rows), PROFILE)
    assert cost.decode_steps == 10 and cost.decode_tokens == 50
    narrow = cost_of(plan_of(ask, rows), replace(PROFILE, running=2))
    assert narrow.decode_steps == 25 and narrow.seconds > cost.seconds


def test_merged_calls_cost_nothing() -> None:
    one = cost_of(plan_of(chain, [{"text": "a"}]), PROFILE)
    same = cost_of(plan_of(chain, [{"text": "a"}] * 9), PROFILE)
    assert replace(same, seconds=0) == replace(one, seconds=0)
    assert same.seconds == pytest.approx(one.seconds)
    assert same.decode_steps == 20  # two calls, one after the other


def test_models_and_tools_on_the_critical_path() -> None:
    @workflow
    def mixed(text: str) -> list[str]:
        return [big(look(ask(text))), ask(ask(text))]

    profile = replace(PROFILE, tool_seconds={"look": 0.5}, lengths={"big": 5.0})
    plan = plan_of(mixed, [{"text": "ab"}])
    cost = cost_of(plan, profile)
    assert cost.path == ("ask", "look", "big") and cost.tool_seconds == 0.5
    assert cost.loads == ("big",) and cost.load_seconds == 3.0 and cost.certain
    assert critical_path(plan, profile).seconds == cost.path_seconds > 0.5
    assert cost.decode_tokens == 20 + 5  # both first calls are one


def test_a_side_of_a_branch_begins_when_the_condition_is_known() -> None:
    @tool(effect="pure")
    def good(text: str) -> bool:
        return True

    @workflow
    def lone(text: str) -> str:
        return plait.when(good(text), big(text), "")

    profile = replace(PROFILE, tool_seconds={"good": 0.1})
    cost = cost_of(plan_of(lone, [{"text": "a"}]), profile)
    assert cost.path == ("good", "big") and cost.decode_steps == 20
    assert cost.path_seconds > 0.1 + 20 * 0.1


def test_the_most_is_said_of_lengths_and_a_range_of_seconds() -> None:
    cost = cost_of(plan_of(ask, [{"text": "a"}]), PROFILE)
    assert cost.known == "limit" and cost.low < cost.seconds < cost.high
    expected, generate, *_ = told_cost(cost).splitlines()
    assert expected.startswith("expected: ") and " to " in expected and "at most" not in expected
    assert generate.startswith("generate: at most 10 tokens")


def test_models_that_take_turns_are_loaded_again() -> None:
    @workflow
    def turns(text: str) -> str:
        return ask(big(ask(text)))

    plan = plan_of(turns, [{"text": "a"}])
    apart = cost_of(plan, replace(PROFILE, together=False))
    assert apart.loads == ("big", "default") and apart.load_seconds == 6.0
    assert cost_of(plan, PROFILE).loads == ("big",)
    assert "2 model loads 6.00 s (big -> default)" in told_cost(apart)


def test_loops_and_maps() -> None:
    @workflow
    def looped(text: str) -> str:
        return plait.loop(ask, text, max_iters=4)

    @workflow
    def mapped(texts: list[str]) -> list[str]:
        return plait.map(ask, texts)

    one = critical_path(plan_of(ask, [{"text": "a"}]), PROFILE).seconds
    loop_plan, map_plan = plan_of(looped, [{"text": "a"}]), plan_of(mapped, [{"texts": ["a", "b"]}])
    assert critical_path(loop_plan, PROFILE).seconds > 3.5 * (one - 0.005)
    found = cost_of(map_plan, PROFILE)
    assert found.decode_tokens == 20 and found.decode_steps == 10


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12), st.integers(1, 8))
def test_more_work_never_costs_less(texts: list[str], running: int) -> None:
    profile = replace(PROFILE, running=running)
    rows = [{"text": t} for t in texts]
    less = cost_of(plan_of(chain, rows), profile)
    more = cost_of(plan_of(chain, [*rows, {"text": "longer text"}]), profile)
    unmerged = cost_of(
        make_plan(chain.workflow, rows, measure=len, disable=["merge_calls"]), profile
    )
    assert less.seconds <= more.seconds and less.seconds <= unmerged.seconds + 1e-9
    assert unmerged.decode_tokens == 20 * len(rows)


def test_of_kv_on_the_host_is_told_only_where_there_is_a_host_tier() -> None:
    @dataclass(frozen=True)
    class Moving(Flat):
        offload: float = 1_000.0
        restore: float = 2_000.0

    plan = plan_of(chain, [{"text": "a"}])
    for evicted, host in ((40, 100), (0, 100), (40, 0)):
        used = Used(
            evicted_tokens=evicted, host_tokens=host, offloaded_tokens=evicted,
            offload_seconds=4.0, restored_tokens=20, restore_seconds=1.0,
        )  # fmt: skip
        found = Rehearsed(used={"default": used})
        text = told_cost(cost_of(plan, Profile({"default": Moving()}), found))
        line = "KV on the host: 40 tokens offloaded in 4.00 s, 20 restored in 1.00 s"
        assert (line in text) == (evicted > 0 and host > 0), text
        assert ("KV on the host" in text) == (line in text)


@pytest.mark.parametrize(("looked", "told"), [(Tasks(1, seconds=0.5), True), (Tasks(1), False)])
def test_only_where_tools_run_does_the_engine_wait_for_them(looked: Tasks, told: bool) -> None:
    plan = plan_of(chain, [{"text": "a"}])
    asked = Tasks(2, seconds=0.2, prompt=4)
    for nodes in ({"ask": asked}, {"ask": asked, "look": looked}):
        found = Rehearsed(seconds=1.0, waited=0.5, nodes=nodes)
        text = told_cost(cost_of(plan, Profile({"default": Flat()}), found))
        assert ("in which only tools run" in text) == (told and "look" in nodes), text


def test_predicted_beside_actual() -> None:
    plan = plan_of(chain, [{"text": "a"}, {"text": "b"}, {"text": "a"}])
    node = {"calls": 3, "merged": 1, "prompt_tokens": 12, "cached_tokens": 2, "seconds": 0.4}
    stats = {
        "seconds": 0.5,
        "nodes": {
            "ask": {**node, "completion_tokens": 8},
            "ask_2": {**node, "completion_tokens": 6},
        },
    }
    lengths, tools = history(stats, plan)
    assert lengths == {"ask": 4.0, "ask_2": 3.0} and tools == {}
    cost: Cost = cost_of(plan, replace(PROFILE, lengths=lengths))
    assert cost.decode_tokens == 14 and cost.certain
    entries = compare(plan, cost, stats)
    assert entries[0]["predicted"][0] == entries[0]["actual"][0] == 2
    assert entries[-1]["actual"] == (4, 20, 14)
    text = analysis(plan, cost, stats)
    assert "0.50 s actual" in text and "2 -> 2" in text
