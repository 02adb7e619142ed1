"""Two tiny models and memory for one: the plan's loads, the same answers, and nothing stuck."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.engine.backends.local import LocalBackend

from .llm import models

KV = 300_000


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("two")
    return {alias: models.save_with_tokenizer(place / alias) for alias in ("small", "big")}


@pytest.fixture(scope="module")
def limit(two: dict[str, Path]) -> int:
    """Memory for one of the models and a half."""
    with Engine(model=two["small"], kv_memory=KV) as engine:
        assert isinstance(engine.backend, LocalBackend)
        return engine.backend.llm("default").memory_bytes * 3 // 2


@pytest.fixture
def tight(two: dict[str, Path], limit: int) -> Iterator[Engine]:
    with Engine(models=two, kv_memory=KV, memory=limit) as engine:
        yield engine


@llm(model="small", max_tokens=3)
def sketch(topic: str) -> str:
    return f"sketch {topic}"


@llm(model="big", max_tokens=3)
def refine(text: str) -> str:
    return f"refine {text}"


@tool(effect="pure")
async def look_up(text: str) -> str:
    await asyncio.sleep(0.02 + len(text) % 5 / 50)
    return f"page {text}"


@workflow
def four(topic: str) -> str:
    return refine(sketch(refine(sketch(topic))))


@workflow
def searched(topic: str) -> str:
    """The small model's calls come in drops, as tools end."""
    return refine(sketch(look_up(sketch(topic))))


def topics(count: int) -> list[dict[str, Any]]:
    return [{"topic": f"{i}"} for i in range(count)]


def test_two_names_of_one_model_are_one_model_under_a_limit(
    two: dict[str, Path], limit: int
) -> None:
    paths = {"default": two["small"], "small": two["small"], "big": two["big"], "third": two["big"]}
    with Engine(models=two, kv_memory=KV) as ample:
        free = ample.run(searched, topics(8))
    with Engine(models=paths, kv_memory=KV, memory=limit) as engine:
        run = engine.run(searched, topics(8))
    assert run.outputs == free.outputs and not run.failed


def loads(engine: Engine) -> int:
    return sum(cost["loads"] for cost in engine.backend.describe()["loads"].values())


def test_the_whole_batch_takes_turns_whatever_the_window(two: dict[str, Path], limit: int) -> None:
    with Engine(models=two, kv_memory=KV) as ample:
        free = ample.run(four, topics(40), plan=False)
    with Engine(models=two, kv_memory=KV, memory=limit, max_rows=8) as engine:
        run = engine.run(four, topics(40))
        assert loads(engine) == 4
    assert run.outputs == free.outputs and not run.failed


def test_a_model_waits_for_its_tools(tight: Engine) -> None:
    run = tight.run(searched, topics(12))
    assert not run.failed and loads(tight) == 2


def test_branches_loops_and_maps_go_on(tight: Engine) -> None:
    @tool(effect="pure")
    def odd(text: str) -> bool:
        return len(text) % 2 == 1

    @workflow
    def pair(text: str) -> str:
        return refine(sketch(text))

    @workflow
    def winding(topic: str) -> list[Any]:
        begun = plait.loop(pair, topic, max_iters=2)
        spread = plait.map(pair, [topic, begun])
        return [plait.when(odd(begun), sketch(begun), refine(begun)), spread]

    run = tight.run(winding, topics(6))
    assert not run.failed, run.failed[0].error
    assert loads(tight) <= 8


def test_a_live_program_that_alternates_goes_on(tight: Engine) -> None:
    @workflow
    async def alternating(topic: str) -> str:
        text = topic
        for _ in range(2):
            text = await refine.acall(await sketch.acall(text))
        return text

    run = tight.run(alternating, topics(5))
    assert not run.failed and loads(tight) == 4


def test_failed_rows_leave_the_gate(tight: Engine) -> None:
    @tool(effect="pure")
    def shaky(text: str) -> str:
        if len(text) % 2:
            raise ValueError("no")
        return text

    @workflow
    def failing(topic: str) -> list[str]:
        first = sketch(topic)
        return [refine(first), sketch(shaky(topic))]

    run = tight.run(failing, [{"topic": "x" * (i + 1)} for i in range(8)])
    assert len(run.failed) == 4 and loads(tight) == 2


def test_cancelled_runs_leave_the_gate(tight: Engine) -> None:
    async def stopped() -> None:
        running = asyncio.create_task(tight.arun(four, topics(8)))
        while not loads(tight):  # three more are to come, so the run cannot have ended
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(stopped())
    assert not tight.run(four, topics(4)).failed


def test_runs_on_two_event_loops_share_a_memory(tight: Engine) -> None:
    """Neither waits for news that only the other's loop could have brought."""
    found: list[Any] = []

    def go(work: Any) -> None:
        found.append(asyncio.run(tight.arun(work, topics(4), plan=False)))

    threads = [threading.Thread(target=go, args=(work,)) for work in (sketch, four, searched)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(run.failed) for run in found] == [0, 0, 0]


def test_a_model_that_cannot_load_fails_the_calls_that_wait_for_it(
    two: dict[str, Path], limit: int, tmp_path: Path
) -> None:
    broken = models.save_with_tokenizer(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-900])
    given = {"small": two["small"], "big": broken}
    with Engine(models=given, kv_memory=KV, memory=limit) as engine:
        run = engine.run(searched, topics(3))
        assert [row.error.type for row in run if row.error] == ["ModelError"] * 3
        assert not engine.run(sketch, topics(2)).failed
