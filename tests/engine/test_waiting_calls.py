"""Calls that wait for a worker, and who takes them over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plait.dag.errors import ModelError
from plait.dag.placement import Placement
from plait.dag.sampling import Sampling
from plait.engine.backends.backend import Call
from plait.engine.backends.placing import costs_of
from plait.engine.backends.workers import Workers
from plait.engine.generation import Generation
from plait.engine.llm.costs import Costs
from plait.engine.stealing import Steal

from .doors import DONE, Door, stage


@pytest.fixture(autouse=True)
def doors_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def costs(aliases: Sequence[str], backends: Sequence[Any]) -> dict[str, Costs]:
        return dict.fromkeys(aliases, Costs()) if isinstance(backends[0], Door) else costs_of(
            aliases, backends
        )  # fmt: skip

    monkeypatch.setattr("plait.engine.backends.sites.costs_of", costs)


async def test_a_call_that_waits_for_a_model_goes_to_who_has_it() -> None:
    first, second = Door(there=False), Door(there=False)
    workers = Workers([first, second])  # type: ignore[list-item]
    told: list[bool] = []
    calls = [
        asyncio.create_task(workers.generate(Call(f"{i}", Sampling(), waits=told.append)))
        for i in range(8)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert first.seen + second.seen == 8 and first.seen and second.seen
    second.there = True
    second.opened.set()  # the first worker's model never comes
    done: list[Any] = await asyncio.wait_for(asyncio.gather(*calls), 5)
    assert done == [DONE] * 8
    assert first.stopped == first.seen and told.count(True) == told.count(False)


class Slow(Door):
    """Its model is there for the calls of any event loop, or is not."""

    async def generate(self, call: Call) -> list[Generation]:
        self.seen += 1
        assert call.waits is not None
        call.waits(True)
        try:
            while not self.there:
                await asyncio.sleep(0.001)
        finally:
            call.waits(False)
        return DONE


def test_calls_of_one_event_loop_are_taken_over_in_another() -> None:
    first, second = Slow(there=False), Slow(there=False)
    workers = Workers([first, second])  # type: ignore[list-item]
    workers._dispatch.homes.follow(Placement((stage("m", ""),), exact=True), {})
    found: list[Any] = []
    begun = threading.Event()

    async def ask(calls: int) -> list[Any]:
        asked = [Call(f"{i}", Sampling(), "m", node="asked") for i in range(calls)]
        work = [asyncio.create_task(workers.generate(call)) for call in asked]
        await asyncio.sleep(0.01)
        begun.set()
        return await asyncio.wait_for(asyncio.gather(*work), 10)

    other = threading.Thread(target=lambda: found.extend(asyncio.run(ask(8))), daemon=True)
    other.start()
    assert begun.wait(10) and first.seen == 8
    second.there = True  # the first worker's model never comes
    assert asyncio.run(ask(1)) == [DONE]
    other.join(10)
    assert found == [DONE] * 8
    assert workers._dispatch.routes.under_way == [0, 0] and not workers._under_way


class Queueing(Door):
    """Its model does one call at a time."""

    def __init__(self, there: bool) -> None:
        super().__init__(there)
        self.turn, self.waiting, self.lost = asyncio.Semaphore(1), 0, 0

    async def generate(self, call: Call) -> list[Generation]:
        assert call.begun is not None
        self.waiting += 1
        begun = False
        try:
            async with self.turn:
                self.waiting -= 1
                begun = True
                call.begun()
                await self.opened.wait()
                return DONE
        except asyncio.CancelledError:
            self.stopped += 1
            self.waiting -= not begun
            self.lost += begun
            raise

    @property
    def loaded(self) -> dict[str, Any]:
        return {"m": SimpleNamespace(kv_tokens=1_000)} if self.there else {}

    def counters(self) -> dict[str, Any]:
        return {"m": SimpleNamespace(waiting=self.waiting)} if self.there else {}


async def test_what_a_worker_has_begun_stays_there() -> None:
    first, second = Queueing(there=True), Queueing(there=False)
    workers = Workers([first, second])  # type: ignore[list-item]
    workers._dispatch.homes.follow(Placement((stage("m", ""),), exact=True), {})
    told: list[int] = []
    calls = [
        Call(f"{i}", Sampling(), "m", node="asked", priority=float(i),
             begun=lambda i=i: told.append(i))  # type: ignore[misc]
        for i in range(8)
    ]  # fmt: skip
    asked = [asyncio.create_task(workers.generate(call)) for call in calls]
    await asyncio.sleep(0)
    second.there = True
    second.opened.set()
    left = set(asked)
    while len(left) > 1:
        done, left = await asyncio.wait(left, timeout=10, return_when="FIRST_COMPLETED")
        assert done, "calls wait for a worker that never ends while another idles"
    assert left == {asked[0]} and told[0] == 0, "whose turn would come last runs already"
    assert not first.lost and first.stopped == 7 and sorted(told) == list(range(8))
    stolen = workers._dispatch.stealing.log[0]
    assert (stolen.waiting, stolen.begun) == (7, 1) and "nobody has begun" in stolen.why
    first.opened.set()
    assert await asked[0] == DONE


async def test_an_answer_is_not_lost_when_its_cost_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers([Door(there=True)])  # type: ignore[list-item]
    call = asyncio.create_task(workers.generate(Call("x", Sampling())))
    await asyncio.sleep(0)

    def fails(*_: object) -> float:
        raise OSError("no network")

    monkeypatch.setattr(workers._sites, "_work", fails)
    assert await call == DONE


async def test_a_guest_that_is_stopped_before_it_begins_leaves_its_place() -> None:
    workers = Workers([Door(there=False), Door(there=True)])  # type: ignore[list-item]
    idling = workers._idling
    idling._follow(Steal(0, "m", 1, 1, 1.0, 1.0, ("n",), 0.0, 1.0, 0.0), 0, [])
    assert 0 not in idling._idle()
    idling._guests[0].task.cancel()
    await asyncio.sleep(0.01)
    assert 0 in idling._idle()
    idling._follow(Steal(0, "m", 1, 1, 1.0, 1.0, ("n",), 0.0, 1.0, 0.0), 0, [])
    await asyncio.sleep(0)
    idling.at_home(0)
    await asyncio.sleep(0.01)
    assert 0 in idling._idle()


def test_a_loop_that_has_stopped_looks_for_no_work() -> None:
    workers = Workers([Door(there=True), Door(there=True)])  # type: ignore[list-item]
    stopped, call = asyncio.new_event_loop(), Call("x", Sampling())
    stopped.run_until_complete(workers.generate(call))
    assert workers._idling._looking is stopped

    async def looks() -> bool:
        await workers.generate(call)
        return workers._idling._looking is asyncio.get_running_loop()

    assert asyncio.run(looks())
    stopped.close()


async def test_a_call_goes_where_its_model_is_placed_or_is_anyway() -> None:
    first, second, third = Door(there=True), Door(there=False), Door(there=True)
    workers = Workers([first, second, third])  # type: ignore[list-item]
    workers._dispatch.homes.follow(Placement((stage("m", "n", ""),), exact=True), {})
    calls = [Call(f"{i}", Sampling(), "m", node="asked[2]/again") for i in range(60)]
    await asyncio.gather(*map(workers.generate, calls))
    assert first.seen and not second.seen and third.seen
    other = Call("x", Sampling(), "m", node="elsewhere")  # that no plan has placed
    await asyncio.gather(*(workers.generate(replace(other, prompt=f"{i}")) for i in range(60)))
    assert second.seen


async def test_a_replica_that_has_come_takes_calls_that_wait_elsewhere() -> None:
    first, second = Door(there=False), Door(there=False)
    workers = Workers([first, second])  # type: ignore[list-item]
    workers._dispatch.homes.follow(Placement((stage("m", "m"),), exact=True), {})
    calls = [
        asyncio.create_task(workers.generate(Call(f"{i}", Sampling(), "m", node="asked")))
        for i in range(12)
    ]
    await asyncio.sleep(0.01)
    waited = first.seen
    loading = asyncio.create_task(workers._arrivals.load(stage("m", "m")))
    await asyncio.sleep(0.01)
    second.there = True
    second.opened.set()
    done: list[Any] = await asyncio.wait_for(asyncio.gather(*calls), 5)
    assert done == [DONE] * 12
    assert waited and first.stopped == first.seen
    first.opened.set()
    await loading


async def test_a_run_begins_as_soon_as_one_of_its_models_is_where_it_is_placed() -> None:
    first, second = Door(there=True), Door(there=False)
    workers = Workers([first, second])  # type: ignore[list-item]
    await asyncio.wait_for(workers._arrivals.load(stage("m", "n")), 5)
    assert workers._arrivals.awaited(1) and not workers._arrivals.awaited(0)
    first.there = False
    loading = asyncio.create_task(workers._arrivals.load(stage("m", "n")))
    await asyncio.sleep(0.01)
    assert not loading.done()
    second.opened.set()
    await asyncio.wait_for(loading, 5)


async def test_a_model_that_cannot_be_loaded_ends_a_run_that_has_no_other() -> None:
    class Broken(Door):
        async def open(self, models: tuple[str, ...]) -> None:
            raise ModelError("no weights")

    workers = Workers([Broken(there=False)])  # type: ignore[list-item]
    with pytest.raises(ModelError, match="no weights"):
        await workers._arrivals.load(stage("m"))


async def test_cancelling_a_call_stops_it_where_it_is() -> None:
    door = Door(there=False)
    workers = Workers([door])  # type: ignore[list-item]
    call = asyncio.create_task(workers.generate(Call("x", Sampling())))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert door.stopped == 1
