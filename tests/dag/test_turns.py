"""Models that take turns while a batch runs: fewest loads, never stuck, and why."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import plait
from plait import llm, tool, workflow
from plait.benchmarks.two_models import searching
from plait.dag.ahead import Ahead, step_of
from plait.dag.nodes import ToolCall
from plait.dag.turns import Place, Turns

from .memory_sim import Sim, fewest, random_workflow

INSTANCES = 250


def short(seed: int) -> Callable[[int, str], float]:
    """Calls and tools that end before patience with them does."""
    rng = random.Random(seed)
    return lambda row, id: rng.uniform(0.01, 0.9)


@pytest.mark.parametrize("room", [1, 2])
def test_a_batch_loads_as_seldom_as_it_can(room: int) -> None:
    """Rows of random programs with calls and tools of random length, in any order."""
    for seed in range(INSTANCES):
        graph = random_workflow(seed, tools=0.3)
        sim = Sim(graph, 5, room, short(seed))
        sim.run()
        assert len(sim.loads) == fewest(graph, room), (seed, sim.loads)


def test_without_a_plan_tools_and_chance_cost_loads() -> None:
    planned = plain = 0
    for seed in range(INSTANCES):
        graph = random_workflow(seed, tools=0.3)
        for known in (True, False):
            sim = Sim(graph, 5, 1, short(seed), planned=known)
            sim.run()
            if known:
                planned += len(sim.loads)
            else:
                plain += len(sim.loads)
    print(f"loads over {INSTANCES} random programs of 5 rows: {plain} -> {planned}")
    assert plain > planned


@pytest.mark.parametrize("tool_seconds", [1.0, 5.0, 20.0])
def test_slow_tools_cost_no_loads_with_a_plan(tool_seconds: float) -> None:
    """The search of the benchmark: rows come out of their tools one by one."""
    loads, ends = {}, {}
    for planned in (True, False):
        rng = random.Random(1)

        def seconds(row: int, id: str, rng: random.Random = rng) -> float:
            tools = isinstance(searching.workflow.nodes[id], ToolCall)
            return rng.uniform(0.1, 2 * tool_seconds) if tools else rng.uniform(0.3, 0.7)

        sim = Sim(searching.workflow, 24, 1, seconds, planned)
        sim.load_seconds = {"small": 10.0, "big": 10.0}
        sim.run()
        loads[planned], ends[planned] = len(sim.loads), sim.clock
    print(f"tools of {tool_seconds} s: plan {loads[True]} loads, {ends[True]:.0f} s; "
          f"on demand {loads[False]} loads, {ends[False]:.0f} s")  # fmt: skip
    assert loads[True] == 4 <= loads[False], loads
    assert tool_seconds < 5 or loads[False] >= 6, loads


def test_failures_and_long_tools_never_stop_the_others() -> None:
    failed = 0
    for seed in range(INSTANCES):
        graph = random_workflow(seed, tools=0.3)
        times, faults = random.Random(seed), random.Random(-seed)
        sim = Sim(graph, 6, 1 + seed % 2, lambda row, id: times.choice([0.1, 50.0]))  # noqa: B023
        sim.fails = lambda row, id: faults.random() < 0.1  # noqa: B023
        failed += sim.run()  # raises when a row hangs
    assert failed


def call(step: str, model: str, ahead: Ahead | None) -> Place:
    return Place(step, model, ahead)


@llm(model="small")
def first(text: str) -> str:
    return text


@llm(model="big")
def second(text: str) -> str:
    return text


@tool(effect="pure")
def look(text: str) -> str:
    return text


@workflow
def searched(text: str) -> str:
    return second(first(look(first(text))))


def two(ahead: Ahead | None) -> Turns:
    return Turns({"small": 60, "big": 60}, 100, {"small": 2.0, "big": 3.0})


def test_a_model_is_kept_for_a_tool_that_will_need_it_but_not_for_ever() -> None:
    ahead = Ahead(searched.workflow)
    turns = two(ahead)
    turns.waits(call("second", "big", ahead))
    turns.begins(Place("look", None, ahead))
    there = frozenset({"small"})
    held = turns.decide(there, 10.0)
    assert held.move is None and held.wait == 5.0 and "'small'" in held.why
    assert turns.decide(there, 14.0).wait == 1.0
    given_up = turns.decide(there, 15.0)
    assert given_up.move is not None and given_up.move.unload == ("small",)
    turns.ends(Place("look", None, ahead), 16.0)
    assert turns.decide(there, 16.0).move is not None


def test_a_model_with_calls_stays_however_long() -> None:
    turns = two(None)
    turns.begins(call("x", "small", None))
    turns.waits(call("y", "big", None))
    found = turns.decide(frozenset({"small"}), 1e9)
    assert found.move is None and found.wait is None and "calls running" in found.why


def test_the_next_model_comes_while_the_present_one_works_if_there_is_room() -> None:
    ahead = Ahead(searched.workflow)
    turns = Turns({"small": 60, "big": 60}, 120, {})
    turns.begins(call("first", "small", ahead))
    move = turns.decide(frozenset({"small"}), 0.0).move
    assert move is not None and (move.load, move.unload) == ("big", ())


def test_the_next_model_comes_while_a_tool_runs() -> None:
    @workflow
    def handed(text: str) -> str:
        return second(look(first(text)))

    ahead = Ahead(handed.workflow)
    turns = two(ahead)
    turns.begins(Place("look", None, ahead))
    found = turns.decide(frozenset({"small"}), 0.0)
    assert found.move is not None and found.move.load == "big"
    assert "next" in found.why


def test_a_branch_does_not_load_what_it_may_not_need() -> None:
    @workflow
    def doubted(text: str) -> str:
        short = first(text)
        return plait.when(look(short), short, second(short))

    ahead = Ahead(doubted.workflow)
    turns = Turns({"small": 60, "big": 60}, 120, {})
    turns.begins(call("first", "small", ahead))
    assert turns.decide(frozenset({"small"}), 0.0).move is None
    turns.waits(call("second", "big", ahead))
    assert turns.decide(frozenset({"small"}), 0.0).move is not None


def test_calls_no_plan_knows_are_served_in_their_order() -> None:
    turns = Turns({"a": 1, "b": 1, "c": 1}, 1, {})
    turns.waits(call("x", "c", None))
    turns.waits(call("y", "b", None))
    move = turns.decide(frozenset({"a"}), 0.0).move
    assert move is not None and (move.load, move.unload) == ("c", ("a",))


def test_steps_of_bodies() -> None:
    @workflow
    def pair(text: str) -> str:
        return second(first(text))

    @workflow
    def spread(texts: list[str]) -> str:
        return second(plait.map(pair, texts)[0])

    @workflow
    def again(text: str) -> str:
        return plait.loop(pair, text, max_iters=3)

    ahead = Ahead(spread.workflow)
    inner = [step for step in ahead.needs if step.endswith("/first")]
    assert len(inner) == 1 and ahead.models[inner[0]] == "small"
    left = ahead.behind(inner)
    assert [ahead.models[s] for s in left if ahead.models[s]] == ["small", "big", "big"]
    assert step_of("map[3]/pair[0]/first") == "map/pair/first"
    # A round that is under way may be followed by another.
    rounds = Ahead(again.workflow)
    last = next(s for s in rounds.needs if s.endswith("/second"))
    assert [m for s in rounds.behind([last]) if (m := rounds.models[s])] == ["big", "small", "big"]
