"""Several devices: calls are divided, prefixes stay together, answers stay the same."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.dag.ahead import Ahead
from plait.dag.estimates import Estimates
from plait.dag.logical import Plan
from plait.dag.placement import Placement, Stage
from plait.dag.sampling import Sampling
from plait.dag.workflow import as_workflow
from plait.engine.backends.backend import Call
from plait.engine.backends.fake import FakeBackend
from plait.engine.backends.local import LocalBackend
from plait.engine.backends.placing import costs_of
from plait.engine.backends.warm import Head, Kept
from plait.engine.backends.workers import Workers
from plait.engine.executor import Executor
from plait.engine.generation import Generation
from plait.engine.homes import Homes
from plait.engine.llm.costs import Costs
from plait.engine.options import Options
from plait.engine.planning import kv_tokens
from plait.engine.routing import SHARE, SLACK, Routes
from plait.engine.stealing import Steal

from .llm import models


def test_calls_that_begin_alike_stay_together_within_a_share() -> None:
    routes = Routes(3)
    rng, under_way = random.Random(1), list[int]()
    kept = total = 0
    last: dict[str, int] = {}
    for _ in range(2_000):
        if under_way and rng.random() < 0.45:
            routes.ends(under_way.pop(rng.randrange(len(under_way))))
            continue
        key = rng.choice("aaaaabcdef")  # one prefix is half of all calls
        worker = routes.choose(key, [True] * 3)
        assert routes.under_way[worker] <= SHARE * (sum(routes.under_way) + 1) / 3 + SLACK
        routes.begins(worker)
        under_way.append(worker)
        total += key in last
        kept += last.get(key) == worker
        last[key] = worker
    assert kept / total > 0.8
    assert sum(routes.under_way) == len(under_way)


def test_a_few_calls_load_no_second_model_and_many_do() -> None:
    routes = Routes(2)
    there = [True, False]
    chosen = []
    for number in range(40):
        chosen.append(routes.choose(number, there))
        routes.begins(chosen[-1])
        there[chosen[-1]] = True
    assert chosen[:SLACK] == [0] * SLACK and 15 <= sum(chosen) <= 25


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("two")
    return {alias: models.save_with_tokenizer(place / alias) for alias in ("small", "big")}


@llm(model="small", max_tokens=4)
def sketch(who: str, topic: str) -> str:
    return plait.prompt(plait.system(f"You are {who}."), plait.user(topic))


@llm(model="big", max_tokens=4)
def refine(text: str) -> str:
    return f"refine {text}"


@workflow
def pair(who: str, topic: str) -> str:
    return refine(sketch(who, topic))


def held(engine: Engine) -> list[set[str]]:
    """By worker, the models it has loaded."""
    return [set(worker["loaded"]) for worker in engine.backend.describe()["workers"]]


def test_models_are_loaded_where_the_plan_places_them(two: dict[str, Path]) -> None:
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(30)]
    with Engine(models=two, kv_memory=300_000) as engine:
        alone = engine.run(pair, rows)
        assert alone.plan.placement is None
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        before = engine.explain(pair, rows)  # nothing is loaded yet
        assert before.placement is not None and held(engine) == [set(), set()]
        shared = engine.run(pair, rows)
        loaded = held(engine)
    assert shared.outputs == alone.outputs and not shared.failed
    placement = shared.plan.placement
    assert placement is not None and placement.exact
    wanted = [set[str]().union(*(s.models[w] for s in placement.stages)) for w in (0, 1)]
    assert all(there <= placed for there, placed in zip(loaded, wanted, strict=True))
    assert set.union(*loaded) == {"small", "big"}
    assert "worker 0: model " in str(shared.plan)
    told = shared.plan.as_dict()["placement"]["stages"][0]["workers"]
    assert [set(worker["models"]) for worker in told] == [
        set(m) for m in placement.stages[0].models
    ]


def apart(plan: Plan, backends: object, known: object) -> Placement:
    """Each model on a worker of its own."""
    config = (frozenset({"small"}), frozenset({"big"}))
    asked = frozenset(f"0:{id}" for id in plan.parts[0].workflow.nodes)
    return Placement((Stage(config, (0.0, 0.0), {"small": 1.0, "big": 1.0}, 1.0, asked),), True)


def test_models_placed_apart_stay_apart(
    two: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(30)]
    monkeypatch.setattr("plait.engine.backends.workers.placement_for", apart)
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        assert isinstance(engine.backend, Workers)
        run = engine.run(pair, rows)
        requests = {name: c.requests for name, c in engine.backend.counters().items()}
    assert not run.failed and sorted(requests) == ["big on 1", "small on 0"]
    assert requests["small on 0"] == 30


@llm(model="big", max_tokens=24)
def lengthen(text: str) -> str:
    return f"lengthen {text}"


@workflow
def long_pair(who: str, topic: str) -> str:
    return lengthen(sketch(who, topic))


def cheap_loads(aliases: Sequence[str], backends: Sequence[Any]) -> dict[str, Costs]:
    """Whatever machine this runs on: calls take longer than loads."""
    return dict.fromkeys(aliases, Costs(step=0.01, load=0.01))


@pytest.mark.parametrize("room", [1.5, 3.0, inf])
def test_a_worker_that_idles_loads_a_model_that_is_not_placed_on_it(
    two: dict[str, Path], monkeypatch: pytest.MonkeyPatch, room: float, tmp_path: Path
) -> None:
    """With memory for one model, for both, and without a limit beside one that cannot load."""
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(60)]
    given: dict[str, Any] = {"kv_memory": 300_000, "max_running": 1}
    with Engine(backend=LocalBackend(two, **given)) as engine:
        alone = engine.run(long_pair, rows)
        need = engine.backend.llm("small").memory_bytes  # type: ignore[attr-defined]
    monkeypatch.setattr("plait.engine.backends.workers.placement_for", apart)
    monkeypatch.setattr("plait.engine.backends.sites.costs_of", cheap_loads)
    memory, paths = (int(need * room), two) if room < inf else (None, two | {"bad": tmp_path})
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with Engine(backend=Workers([LocalBackend(paths, memory, **given) for _ in "12"])) as engine:
        run = engine.run(long_pair, rows)
        told = engine.backend.describe()
        done = {name: c.finished for name, c in engine.backend.counters().items()}  # type: ignore[attr-defined]
    assert run.outputs == alone.outputs and not run.failed
    stolen = told["stolen"]
    assert stolen and stolen[0]["worker"] == 0 and stolen[0]["model"] == "big"
    assert stolen[0]["saved"] >= stolen[0]["least"] > 0 and "takes" in stolen[0]["why"]
    assert (stolen[0]["out"] == []) == (room > 2)
    assert done["big on 0"] and done["big on 1"]
    made = run.stats.nodes["lengthen"].calls - run.stats.nodes["lengthen"].merged
    answered = sum(n for name, n in done.items() if name.startswith("big"))
    assert made <= answered <= made + len(stolen)  # one may end just when it is taken


def test_what_is_known_of_several_workers_together(two: dict[str, Path]) -> None:
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        backend = engine.backend
        assert isinstance(backend, Workers) and kv_tokens(backend) is None
        first, second = backend.workers
        loaded = [first.llm("small"), second.llm("small"), second.llm("big")]
        assert kv_tokens(backend) == min(llm.kv_tokens for llm in loaded)
        assert backend.costs() == {"small": loaded[0].costs, "big": loaded[2].costs}


async def test_models_are_placed_by_what_earlier_runs_have_shown() -> None:
    told: list[object] = []

    class Placing(FakeBackend):
        def placed(self, plan: Plan, known: Estimates | None = None) -> Plan:
            raise AssertionError("asked by `explain` only")

        async def arrange(self, plan: Plan, known: Estimates | None = None) -> Plan:
            told.append(known)
            return plan

        def ended(self, plan: Plan) -> None:
            told.append("ended")

    known = Estimates()
    executor = Executor(as_workflow(pair), Placing(), Options(known=known))
    rows = [row async for row in executor.run([{"who": "a", "topic": "b"}])]
    assert rows[0].status == "ok" and told == [known, "ended"]


def test_without_a_plan_both_workers_take_calls_of_both_models(two: dict[str, Path]) -> None:
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(30)]
    with Engine(models=two, kv_memory=300_000) as engine:
        alone = engine.run(pair, rows, plan=False)
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        assert isinstance(engine.backend, Workers)
        hold_back_the_first(engine.backend)
        shared = engine.run(pair, rows, plan=False)
        done = {name: c.requests for name, c in engine.backend.counters().items()}
    assert shared.outputs == alone.outputs and not shared.failed
    assert done["small on 0"] and done["small on 1"]


def hold_back_the_first(backend: Workers) -> None:
    """The first worker begins only when the second has been asked for something."""
    asked, first, second = asyncio.Event(), *backend.workers
    begin, answer = first.generate, second.generate

    async def slow(call: Call) -> Any:
        await asked.wait()
        return await begin(call)

    async def seen(call: Call) -> Any:
        asked.set()
        return await answer(call)

    first.generate, second.generate = slow, seen  # type: ignore[method-assign]


def test_workers_take_turns_each_under_its_own_memory(two: dict[str, Path]) -> None:
    with Engine(model=two["small"], kv_memory=300_000) as engine:
        need = engine.backend.llm("default").memory_bytes  # type: ignore[attr-defined]
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(20)]
    given = {"kv_memory": 300_000, "memory": need * 3 // 2}
    with Engine(models=two, devices=["cpu", "cpu"], **given) as engine:
        run = engine.run(pair, rows)
        loads = [sum(c["loads"] for c in w["loads"].values())
                 for w in engine.backend.describe()["workers"]]  # fmt: skip
    assert not run.failed and max(loads) <= 2


DONE = [Generation((1,), "done", "stop")]


class Door:
    """A worker whose model comes when it is told so. It is its own shelf."""

    limit, moving = None, False

    def __init__(self, there: bool) -> None:
        self.there, self.seen, self.stopped = there, 0, 0
        self.opened = asyncio.Event()
        self.took = 0.001

    async def open(self, models: tuple[str, ...]) -> None:
        await self.opened.wait()

    def check(self, models: Sequence[str]) -> None: ...

    def has(self, model: str) -> bool:
        return self.there

    async def generate(self, call: Call) -> list[Generation]:
        self.seen += 1
        try:
            if not self.there:
                assert call.waits is not None
                call.waits(True)
                try:
                    await self.opened.wait()
                finally:
                    call.waits(False)
            await asyncio.sleep(self.took)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return DONE

    def shelf(self) -> Door:
        return self

    def name(self, alias: str) -> str:
        return alias

    @property
    def loaded(self) -> dict[str, Any]:
        return {}

    def sizes(self) -> dict[str, int]:
        return {}

    def counters(self) -> dict[str, Any]:
        return {}


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


def test_models_of_the_hub_are_looked_up_once(
    two: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def from_hub(id: str) -> Path:
        asked.append(id)
        return two["small"]

    monkeypatch.setattr("plait.engine.models._from_hub", from_hub)
    backend = LocalBackend({"small": "some/model", "big": two["big"]})
    assert list(costs_of(("small", "big"), [backend])) == ["small", "big"]
    assert asked == ["some/model"]


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


def stage(*models: str) -> Stage:
    """One step `asked`, with these models on the workers."""
    config = tuple(frozenset(held.split()) for held in models)
    return Stage(config, (0.0,) * len(config), {}, 0.0, frozenset({"0:asked"}))


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


def test_what_lies_ahead_of_a_worker_is_what_is_placed_there() -> None:
    homes, ahead = Homes(), Ahead(as_workflow(pair))
    config = (frozenset({"small"}), frozenset({"big"}))
    steps = frozenset(f"0:{step}" for step in ahead.needs)
    homes.follow(Placement((Stage(config, (0.0, 0.0), {}, 0.0, steps),), exact=True), {})
    seen = [{m for m in homes.view(ahead, w).models.values() if m} for w in (0, 1)]
    assert seen == [{"small"}, {"big"}] and homes.view(ahead, 0) is homes.view(ahead, 0)


def test_a_prompt_is_begun_on_the_worker_where_the_call_will_be(two: dict[str, Path]) -> None:
    """Both have the model, and prompts that all begin alike do not all fit on one of them."""
    begun: dict[str, int] = {}
    done: dict[str, int] = {}

    @llm(model="big", max_tokens=2)
    def answer(page: str, found: str) -> str:
        return plait.prompt(plait.system(f"{page} is read with care. " * 16), plait.user(found))

    @tool
    async def look_up(page: str) -> str:
        await asyncio.sleep(0.3)
        return "found"

    @workflow
    def flow(page: str) -> str:
        return answer(page, look_up(page))

    with Engine(models=two, kv_memory=2_000_000, devices=["cpu", "cpu"]) as engine:
        backend = engine.backend
        assert isinstance(backend, Workers)
        for number, worker in enumerate(backend.workers):
            worker.llm("big")
            note(worker, number, begun, done)
        run = engine.run(flow, [{"page": f"{i}"} for i in range(12)])
        llms = [worker.llm("big") for worker in backend.workers]
        assert all(llm.explain() is not None for llm in llms)  # behind all that was asked before
        counters = [llm.counters() for llm in llms]
    assert not run.failed and set(begun.values()) == {0, 1}
    assert begun.items() <= done.items()
    assert sum(c.warmed_used for c in counters) == sum(c.warmed_tokens for c in counters)
    assert all(c.pins == 0 for c in counters)


def note(worker: LocalBackend, number: int, begun: dict[str, int], done: dict[str, int]) -> None:
    """Note by row on which worker its prompt is begun, and answered."""
    warm, answer = worker.warm, worker.generate

    async def warming(head: Head) -> Kept | None:
        assert head.task is not None
        begun[head.task[0]] = number
        return await warm(head)

    async def answering(call: Call) -> list[Generation]:
        done[call.row] = number
        return await answer(call)

    worker.warm, worker.generate = warming, answering  # type: ignore[method-assign]


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
