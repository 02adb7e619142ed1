"""Which call of a row goes first: the one with the longest chain of work before it."""

from __future__ import annotations

import asyncio

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.dag.estimates import Estimates, operator_key
from plait.dag.expected import FEW
from plait.dag.workflow import as_workflow
from plait.engine.backends.backend import Call
from plait.engine.generation import Generation, Usage
from plait.engine.lengths import Lengths
from plait.engine.row import RowState
from plait.engine.run import Stats
from plait.engine.wiring import TOKENS_PER_SECOND, TOOL_LENGTH, Wiring
from plait.testing import FakeBackend


class OneAtATime(FakeBackend):
    """A model that answers one call at a time, first the one of the highest priority."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self._waiting: list[tuple[float, int]] = []
        self._turn = asyncio.Condition()

    async def generate(self, call: Call) -> list[Generation]:
        place = call.priority, -len(self._waiting)
        self._waiting.append(place)
        await asyncio.sleep(0.01)  # until those that begin with it have come
        async with self._turn:
            await self._turn.wait_for(lambda: place == max(self._waiting))
            self._waiting.remove(place)
            self.order.append(call.node)
            self._turn.notify_all()
            return await super().generate(call)


@llm(max_tokens=64)
def skim(topic: str) -> str:
    return f"skim {topic}"


@llm(max_tokens=8)
def read(topic: str) -> str:
    return f"read {topic}"


@tool(effect="pure", timeout=120)
def glance(text: str) -> str:
    return text


@tool(effect="pure", timeout=120)
def research(text: str) -> str:
    return text


@workflow
def report(topic: str) -> list[str]:
    return [glance(skim(topic)), research(read(topic))]


@tool(effect="pure", timeout=120)
async def slowly(text: str) -> str:
    await asyncio.sleep(0.1)
    return text


@workflow
def slow_report(topic: str) -> list[str]:
    return [skim(topic), slowly(read(topic))]


@workflow
def mapped(topics: list[str]) -> list[str]:
    return plait.map(read, topics)


@pytest.mark.parametrize(
    ("expect", "order"),
    [
        ({}, ["skim", "read"]),  # by max_tokens
        ({"research": 60.0}, ["read", "skim"]),
        ({"research": 60.0, "glance": 90.0}, ["skim", "read"]),
        ({"skim": 2, "read": 7}, ["read", "skim"]),
        ({"glance": 0.01, "skim": 8, "read": 8}, ["read", "skim"]),
    ],
)
def test_the_branch_that_takes_longest_is_asked_first(
    expect: dict[str, float], order: list[str]
) -> None:
    backend = OneAtATime()
    with Engine(backend=backend) as engine:
        assert not engine.run(report, [{"topic": "bees"}], expect=expect).failed
    assert backend.order == order


def test_chains_are_in_tokens_and_a_second_of_a_tool_counts_as_some() -> None:
    graph = as_workflow(report)
    plain = Wiring(graph).prepare()
    assert plain.ahead["skim"] == 64 + TOOL_LENGTH and plain.ahead["read"] == 8 + TOOL_LENGTH
    given = {operator_key(graph.nodes["skim"]): 10.0, operator_key(graph.nodes["research"]): 60.0}
    known = Wiring(graph, Estimates(given=given)).prepare()
    assert known.ahead["skim"] == 10 + TOOL_LENGTH
    assert known.ahead["read"] == known.length == 8 + 60 * TOKENS_PER_SECOND


def test_what_a_run_shows_of_its_first_rows_puts_the_calls_of_others_in_order() -> None:
    """Nothing is known before: `skim` may take 64 tokens. Its answers are short, and what `read`
    leads to is slow."""
    backend, rows = OneAtATime(), [{"topic": f"bees {i}"} for i in range(2 * FEW)]
    with Engine(backend=backend, max_rows=1) as engine:
        run = engine.run(slow_report, rows, plan=False)
    assert not run.failed
    assert backend.order[:2] == ["skim", "read"] and backend.order[-2:] == ["read", "skim"]


def test_chains_are_worked_out_anew_in_bodies_too_and_no_more_often_than_need_be() -> None:
    graph = as_workflow(mapped)
    stats, wiring = Stats(), Wiring(graph).prepare()
    lengths, row = Lengths(stats, Estimates()), RowState("x", 0)
    body = wiring.bodies["map_read"]
    assert body.length == wiring.ahead["map_read"] == 8
    for number in range(3 * FEW):
        answer = Generation((), "a", "stop", None, Usage(1, 0, 2))
        stats.task("map_read/read", "LLMCall", row, stats.started, True, [answer])
        before = lengths.known
        lengths.counted("map_read/read", wiring)
        assert (lengths.known is not before) == (number == FEW - 1)
    assert body.length == wiring.ahead["map_read"] == 2
