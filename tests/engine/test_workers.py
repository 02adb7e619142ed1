"""Several devices: calls are divided, models go where they are placed, answers stay the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError
from math import inf
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.dag.logical import Plan
from plait.dag.placement import Placement, Stage
from plait.engine.backends.backend import Call
from plait.engine.backends.local import LocalBackend
from plait.engine.backends.placing import costs_of
from plait.engine.backends.warm import Head, Kept
from plait.engine.backends.workers import Workers
from plait.engine.generation import Generation
from plait.engine.llm.costs import Costs
from plait.engine.planning import kv_tokens

from .llm import models
from .operators import pair, sketch


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("two")
    return {alias: models.save_with_tokenizer(place / alias) for alias in ("small", "big")}


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
    # The other worker may take short calls first, where those are slow enough to wait long.
    stolen = [steal for steal in told["stolen"] if steal["model"] == "big"]
    assert stolen and stolen[0]["worker"] == 0
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


def test_what_a_plan_has_placed_ends_with_its_run(
    two: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(30)]
    monkeypatch.setattr("plait.engine.backends.workers.placement_for", apart)
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        assert isinstance(engine.backend, Workers)
        placed = engine.run(pair, rows)
        before = {name: c.requests for name, c in engine.backend.counters().items()}
        hold_back_the_first(engine.backend)
        streamed = list(engine.stream(pair, iter(rows)))
        done = {name: c.requests for name, c in engine.backend.counters().items()}
    assert sorted(before) == ["big on 1", "small on 0"]
    assert done["small on 0"] > before["small on 0"] and done["small on 1"]
    assert {row.index: row.output for row in streamed} == dict(enumerate(placed.outputs))


def test_a_run_that_is_given_up_before_it_begins_leaves_no_placement(
    two: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"who": "a", "topic": "b"}]
    monkeypatch.setattr("plait.engine.backends.workers.placement_for", apart)
    for module in ("executor", "together"):
        monkeypatch.setattr(f"plait.engine.{module}.forewarn", given_up)
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        assert isinstance(engine.backend, Workers)
        dispatch, model = engine.backend._dispatch, engine.backend._sites.name("small")
        for run in (
            lambda: engine.run(pair, rows),
            lambda: engine.run_together([(pair, rows), (sketch, rows)]),
        ):
            with pytest.raises((asyncio.CancelledError, CancelledError)):
                run()
            assert dispatch.homes.of(model, "sketch") is None


async def given_up(*_: object) -> None:
    raise asyncio.CancelledError


def hold_back_the_first(backend: Workers) -> None:
    """The first worker begins only when the second has answered something."""
    answered, first, second = asyncio.Event(), *backend.workers
    begin, answer = first.generate, second.generate

    async def slow(call: Call) -> Any:
        await answered.wait()
        return await begin(call)

    async def seen(call: Call) -> Any:
        found = await answer(call)
        answered.set()
        return found

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
