"""Which rows are let in, and which of their calls go first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.engine import admission
from plait.engine.admission import Admission, Entry
from plait.engine.backends.backend import Call
from plait.engine.executor import Executor
from plait.engine.generation import Generation
from plait.engine.row import Row
from plait.testing import FakeBackend, VirtualClock, prompt_text

from .llm.test_scheduler import Sim


class Turns:
    """A model that takes `seconds` of a clock for each call, one after the other, and says which
    rows it worked for when. Nobody waits for real time."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.clock, self.seconds = VirtualClock(), seconds
        self.calls: list[Call] = []

    async def generate(self, call: Call) -> list[Generation]:
        self.calls.append(call)
        await self.clock.sleep(self.seconds)
        await asyncio.sleep(0)
        return [Generation((), f"<{prompt_text(call)}>", "stop", None)]

    async def open(self, models: tuple[str, ...]) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None: ...


@llm
def say(text: str) -> str:
    return f"Say {text}"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BUSY", 2)


def test_rows_that_wait_for_tools_block_no_row_that_is_ready(few: None) -> None:
    """Both rows that are let in first wait for tools that end only after every row has called the
    model: were they to keep their places, nothing would ever end."""
    rows = 6

    @tool
    async def slow(text: str) -> str:
        while len(model.calls) < rows:
            await asyncio.sleep(0)
        return f"{model.clock():.0f} s"

    @workflow
    def flow(text: str) -> str:
        return slow(say(text))

    model = Turns()
    with Engine(backend=model) as engine:
        run = engine.run(flow, [{"text": str(i)} for i in range(rows)])
    assert run.outputs == ["6 s"] * rows  # never idle: a call a second


def test_no_more_rows_than_are_allowed_however_long_they_rest(few: None) -> None:
    under_way: set[str] = set()
    most = 0

    @tool
    async def slow(text: str) -> str:
        nonlocal most
        under_way.add(text)
        most = max(most, len(under_way))
        for _ in range(20):
            await asyncio.sleep(0)
        under_way.remove(text)
        return text

    with Engine(backend="fake", max_rows=5) as engine:
        run = engine.run(slow, [{"text": str(i)} for i in range(12)])
    assert run.outputs == [str(i) for i in range(12)] and most == 5


def test_rows_that_ask_the_model_are_few(few: None) -> None:
    asking = most = 0

    class Slow(FakeBackend):
        async def generate(self, call: Call) -> list[Generation]:
            nonlocal asking, most
            asking += 1
            most = max(most, asking)
            for _ in range(3):
                await asyncio.sleep(0)
            asking -= 1
            return await super().generate(call)

    with Engine(backend=Slow()) as engine:
        assert all(engine.run(say, [{"text": str(i)} for i in range(9)]))
    assert most == 2


async def test_rows_rest_only_while_nothing_asks_a_model() -> None:
    """Every count comes back to nothing, also when tools fail and rows end early."""

    @tool
    async def fails(text: str) -> str:
        await asyncio.sleep(0)
        if int(text) % 2:
            raise ValueError("no")
        return text

    @tool
    async def works(text: str) -> str:
        await asyncio.sleep(0.001)
        return text

    @workflow
    def flow(text: str) -> list[str]:
        return [works(say(text)), fails(text), works(text)]

    executor = Executor(flow.workflow, FakeBackend())
    rows = [row async for row in executor.run([{"text": str(i)} for i in range(20)])]
    assert len(rows) == 20 and executor.waits.admission is not None
    assert executor.waits.admission._resting == 0 and not executor.waits.admission._running


async def test_results_nobody_takes_hold_the_run_back() -> None:
    begun: list[int] = []

    def begin(entry: Entry) -> Row | Coroutine[Any, Any, Row]:
        begun.append(entry.place)
        return Row(entry.place, "ok")

    source: Iterator[Entry] = (Entry(i, i, {}) for i in range(100))
    rows = Admission(source, 4, begin).rows()
    assert (await anext(rows)).id == 0
    assert begun == [0, 1, 2, 3, 4]


# -- priority ------------------------------------------------------------------------------------


def priorities(flow: Any, rows: list[dict[str, Any]]) -> dict[str, float]:
    model = Turns()
    with Engine(backend=model) as engine:
        assert all(row.ok for row in engine.run(flow, rows))
    return {f"{call.row}:{call.node}": call.priority for call in model.calls}


def test_no_call_waits_for_runs_that_begin_after_its_row() -> None:
    """The last row of a long run, and then one short run after another on the same engine."""
    model = Turns()
    with Engine(backend=model) as engine:
        engine.run(say, [{"text": f"{i}"} for i in range(60)])
        for i in range(20):
            engine.run(say, [{"text": f"later {i}"}, {"text": f"and {i}"}])
            engine.generate([f"prompt {i}", f"and {i}"])
    asked = [call.priority for call in model.calls]
    sim = Sim(pages=40, running=1)
    patient = sim.ask([1] * 8, out=1, priority=asked[59])
    for number, priority in enumerate(asked[60:]):
        sim.ask([100 + number] * 8, out=1, priority=priority)
        sim.step()
    assert sim.finished[0] is patient
    sim.run()
    numbers = [request.number for request in sim.finished]
    assert numbers == sorted(numbers), "and those of each run and each list go in their order"


@tool(effect="pure")
def exclaim(text: str) -> str:
    return text + "!"


def test_the_longer_chain_goes_first_and_earlier_rows_before_later_ones() -> None:
    @workflow
    def flow(text: str, other: str) -> list[str]:
        return [say(exclaim(say(text))), say(other)]

    found = priorities(flow, [{"text": "a", "other": "b"}, {"text": "c", "other": "d"}])
    first, last, short = (found[f"0:{n}"] for n in ("say", "say_2", "say_3"))
    assert first > last == short
    assert min(first, last, short) > found["1:say"] > found["1:say_3"]


def test_calls_in_maps_and_loops_count_what_comes_behind_these() -> None:
    @workflow
    def twice(text: str) -> str:
        return say(say(text))

    @workflow
    def flow(words: list[str], start: str) -> list[str]:
        told = plait.map(twice, words)
        return [say(told[0]), plait.loop(say, start, max_iters=2)]

    found = priorities(flow, [{"words": ["a", "b"], "start": "c"}])
    inner, after = found["0:map_twice[1]/say"], found["0:map_twice[1]/say_2"]
    assert inner > after > found["0:say"]
    assert found["0:loop_say[0]/say"] == found["0:loop_say[1]/say"] == found["0:say"]


async def test_a_fault_in_a_row_ends_the_run_with_it_and_does_not_hang() -> None:
    async def broken() -> Row:
        raise KeyError("of ours")

    entries = iter([Entry(0, 0, {"text": "a"})])
    with pytest.raises(KeyError):
        _ = [row async for row in Admission(entries, 4, lambda entry: broken()).rows()]


def test_work_that_a_backend_cancels_fails_its_row_alone() -> None:
    class Cancelling(FakeBackend):
        async def generate(self, call: Call) -> list[Generation]:
            if prompt_text(call).endswith("b"):
                raise asyncio.CancelledError
            return await super().generate(call)

    for plan in (False, True):
        with Engine(backend=Cancelling()) as engine:
            rows = [{"text": text} for text in ("a", "b", "b", "c")]
            run = engine.run(say, rows, plan=plan)
        assert [row.status for row in run.rows] == ["ok", "error", "error", "ok"]
        failure = run.rows[1].error
        assert failure is not None and "cancelled" in failure.message
