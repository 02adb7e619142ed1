"""Tenants: what one salt asks for is found by no other, in the cache or on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.engine.backends.backend import Call
from plait.engine.backends.fake import FakeBackend
from plait.engine.backends.warm import Head, Kept
from plait.engine.generation import Generation
from plait.engine.llm import LLM

from .llm import models


class Recording(FakeBackend):
    """Remembers the salts of calls and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.salts: list[str] = []
        self.heads: list[str] = []

    async def generate(self, call: Call) -> list[Generation]:
        self.salts.append(call.salt)
        await asyncio.sleep(0.001)
        return await super().generate(call)

    async def warm(self, head: Head) -> Kept | None:
        self.heads.append(head.salt)
        return Kept(lambda: None)


@llm
def draft(topic: str) -> str:
    return f"about {topic}"


@llm
def judge(topic: str, found: str) -> str:
    return f"{'Read it with care, then judge. ' * 9} Judge {topic} by: {found}"


@tool(effect="pure")
async def search(topic: str) -> str:
    await asyncio.sleep(0.02)
    return f"all of {topic}"


@plait.agent(tools=[search], max_turns=3)
def agent(topic: str) -> str:
    return f"find {topic}"


@workflow
def flow(topic: str) -> list[str]:
    drafts = plait.map(draft, [topic, "more"])
    return [drafts[0], judge(topic, search(topic)), agent(topic)]


@workflow
async def live(topic: str) -> str:
    return await draft.acall(topic)


def test_every_call_of_a_run_has_the_salt_of_its_engine() -> None:
    backend = Recording()
    with Engine(backend=backend) as engine:
        tenant = engine.salted("a")
        for target in (flow, live):
            assert not tenant.run(target, [{"topic": "bees"}, {"topic": "ants"}]).failed
        assert list(tenant.stream(draft, [{"topic": "bees"}]))
        tenant.call(draft, topic="bees")
        tenant.run_together([(draft, [{"topic": "bees"}])])
        tenant.generate("bees", max_tokens=3)
        assert set(backend.salts) == {"a"} and set(backend.heads) == {"a"}
        backend.salts.clear()
        engine.salted("b").generate("bees", max_tokens=3)
        engine.run(flow, [{"topic": "bees"}])
        assert set(backend.salts) == {"b", ""}


def test_calls_of_two_salts_are_never_one() -> None:
    backend = Recording()

    async def both(engine: Engine, *salts: str) -> int:
        backend.salts.clear()
        rows = [{"topic": "bees"}] * 3
        await asyncio.gather(*(engine.salted(salt).arun(draft, rows) for salt in salts))
        return len(backend.salts)

    with Engine(backend=backend) as engine:
        assert asyncio.run(both(engine, "a")) == 1, "equal rows of one run are one call"
        assert asyncio.run(both(engine, "a", "b")) == 2


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path: Path = models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))
    with Engine(model=path) as engine:
        yield engine


@llm(max_tokens=4)
def long(topic: str) -> str:
    return f"Write all there is to be said of {topic}, at length, and then what is not."


def test_a_run_finds_the_pages_of_its_own_salt_only(engine: Engine) -> None:
    def cached(salt: str) -> int:
        run = engine.salted(salt).run(long, [{"topic": "bees"}])
        assert not run.failed
        return run.stats.cached_tokens

    assert [cached(salt) > 0 for salt in ("a", "a", "b", "b", "", "a")] == [
        False, True, False, True, False, True,
    ]  # fmt: skip


async def test_a_prompt_on_its_way_is_computed_once_for_each_salt(engine: Engine) -> None:
    """Whoever asks for what somebody of the same salt is computing waits for it."""
    backend: Any = engine.backend
    model: LLM = backend.llm("default")

    async def computed(prompt: list[int], *salts: str) -> int:
        before = model.counters().prefill_tokens
        await asyncio.gather(
            *(engine.salted(salt).agenerate([prompt], max_tokens=2) for salt in salts)
        )
        return model.counters().prefill_tokens - before

    assert await computed([7] * 100, "a", "a") <= 102
    assert await computed([8] * 100, "a", "b") == 200
