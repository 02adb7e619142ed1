"""Several devices: calls are divided, prefixes stay together, answers stay the same."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, workflow
from plait.dag.sampling import Sampling
from plait.engine.backends.backend import Call
from plait.engine.backends.workers import Workers
from plait.engine.routing import SHARE, SLACK, Routes

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


def test_two_workers_give_the_same_rows_and_both_work(two: dict[str, Path]) -> None:
    rows = [{"who": str(i % 7), "topic": f"{i}"} for i in range(30)]
    with Engine(models=two, kv_memory=300_000) as engine:
        alone = engine.run(pair, rows)
    with Engine(models=two, kv_memory=300_000, devices=["cpu", "cpu"]) as engine:
        assert isinstance(engine.backend, Workers)
        shared = engine.run(pair, rows)
        done = {name: c.requests for name, c in engine.backend.counters().items()}
        told = engine.backend.describe()
    assert shared.outputs == alone.outputs and not shared.failed
    assert done["small on 0"] and done["small on 1"] and len(told["workers"]) == 2


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


class Door:
    """A worker whose model comes when it is told so."""

    def __init__(self, there: bool) -> None:
        self.there, self.seen, self.stopped = there, 0, 0
        self.opened = asyncio.Event()

    def has(self, model: str) -> bool:
        return self.there

    async def generate(self, call: Call) -> list[Any]:
        self.seen += 1
        if not self.there:
            assert call.waits is not None
            call.waits(True)
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
            finally:
                call.waits(False)
        await asyncio.sleep(0.001)
        return ["done"]


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
    assert done == [["done"]] * 8
    assert first.stopped == first.seen and told.count(True) == told.count(False)


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
