"""Agents' conversations: kept while tools work, let go behind the last turn, given back always."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait import Engine, tool
from plait.dag.sampling import Sampling
from plait.engine.backends.backend import Call
from plait.engine.backends.local import LocalBackend
from plait.engine.backends.warm import Head, Kept
from plait.engine.generation import Generation, Usage
from plait.engine.llm.counters import Counters
from plait.testing import FakeBackend, prompt_text

from .llm import models

PAGE = 2 * 2 * 2 * 8 * 4 * 16
"""Bytes: keys and values of 2 layers, 2 heads of 8 floats, 16 tokens."""
CALL = '<tool_call>{"name": "search", "arguments": {"words": "a"}}</tool_call>'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


class Talking(LocalBackend):
    """The local engine, whose agent's first turns are put into its mouth as tool calls."""

    first: Usage
    second: Usage

    async def generate(self, call: Call) -> list[Generation]:
        asks = call.tools and "found" not in prompt_text(call)
        if not asks:
            done = await super().generate(call)
            if call.tools:
                self.second = done[0].usage
            return done
        done = await super().generate(dataclasses.replace(call, still_wanted=None))
        self.first = done[0].usage
        return [dataclasses.replace(g, text=CALL) for g in done]


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    backend = Talking({"default": model}, kv_memory=100 * PAGE)
    with Engine(backend=backend) as engine:
        llm = backend.llm("default")
        llm.costs = dataclasses.replace(llm.costs, token=1.0)  # computing again takes very long
        yield engine


def counters(engine: Engine) -> Counters:
    assert isinstance(engine.backend, LocalBackend)
    llm = engine.backend.llm("default")
    llm.explain()  # answered by its thread, after all that was asked before
    found = llm.counters()
    assert found.free_pages + found.cached_pages + found.held_pages == found.total_pages
    return found


def second_turn(engine: Engine, **options: Any) -> tuple[int, int]:
    """Tokens of the second turn's prompt that were computed, and those that the first had not.
    While the tool worked others filled the memory several times."""

    @tool
    async def search(words: str) -> str:
        for i in range(30):
            call = Call(f"{i} is another prompt " * 12, Sampling(max_tokens=2))
            await engine.backend.generate(call)
        return "found"

    @plait.agent(tools=[search], max_tokens=2)
    def helper(question: str) -> str:
        return "Answer the question with what you find. " * 4 + question

    assert engine.run(helper, [{"question": "which?"}], **options).rows[0].ok
    assert isinstance(engine.backend, Talking)
    first, second = engine.backend.first, engine.backend.second
    new = second.prompt_tokens - first.prompt_tokens
    return second.prompt_tokens - second.cached_tokens, new


def test_a_turn_computes_only_what_is_new_however_much_went_through(engine: Engine) -> None:
    computed, new = second_turn(engine)
    assert computed < new + 16  # pins end at pages
    now = counters(engine)
    assert now.pins == now.held_pages == 0 and now.evicted_tokens > 0
    computed, new = second_turn(engine, disable=["split_prefill"])
    assert computed > new + 150


def test_it_is_not_kept_for_longer_than_it_pays(engine: Engine) -> None:
    assert isinstance(engine.backend, LocalBackend)
    llm = engine.backend.llm("default")
    llm.costs = dataclasses.replace(llm.costs, step=0.0, token=1e-9, token_context=0.0)
    computed, new = second_turn(engine)
    assert computed > new + 150


# -- what is asked of a backend --------------------------------------------------------------------


class Keeping(FakeBackend):
    """Notes the heads that are kept, and asks what is still wanted when a conversation ends."""

    def __init__(self, turns: int) -> None:
        super().__init__(lambda call: CALL if prompt_text(call).count("</tool") < turns else "so")
        self.heads: list[Head] = []
        self.kept: set[int] = set()
        self.most = 0
        self.ended: list[float] = []

    async def generate(self, call: Call) -> list[Generation]:
        await asyncio.sleep(0)
        done = await super().generate(call)
        assert call.last is not None and call.still_wanted is not None
        if call.last(done):
            self.ended.append(call.still_wanted())
        return done

    async def warm(self, head: Head) -> Kept | None:
        number = len(self.heads)
        self.heads.append(head)
        self.kept.add(number)
        self.most = max(self.most, len(self.kept))
        return Kept(lambda: self.kept.discard(number))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 4),
    st.lists(st.sampled_from(["fine", "fails", "breaks", "long"]), min_size=1, max_size=4),
    st.integers(0, 60),
)
def test_nothing_stays_kept_however_an_agent_ends(
    turns: int, acts: list[str], patience: int
) -> None:
    """Tools that fail, that break the row, rows that are cancelled, too many turns."""
    asked = iter(acts * 9)

    @tool
    async def search(words: str) -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        act = next(asked)
        if act == "fails":
            raise ValueError("no")
        if act == "breaks":
            raise SystemExit
        if act == "long":
            await asyncio.sleep(3600)
        return "found"

    @plait.agent(tools=[search], max_turns=3)
    def helper(question: str) -> str:
        return f"Answer {question} now."

    backend = Keeping(turns)

    async def go(engine: Engine) -> None:
        running = asyncio.ensure_future(engine.arun(helper, [{"question": "a"}]))
        for _ in range(20 + 3 * patience):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with Engine(backend=backend) as engine:
        asyncio.run(go(engine))
    assert not backend.kept and backend.most <= 2  # a new one before the old one goes
    assert len(backend.ended) <= 1


def test_behind_the_last_turn_only_what_others_begin_with_stays() -> None:
    @tool
    async def search(words: str) -> str:
        return "found"

    @plait.agent(tools=[search], max_turns=2)
    def helper(page: str, question: str) -> str:
        return f"{page} and {question}"

    backend = Keeping(1)
    rows = [{"page": "p" * 2000, "question": q} for q in "ab"]
    with Engine(backend=backend, max_rows=1) as engine:
        assert not engine.run(helper, rows).failed
    first, second = backend.ended
    assert 0.7 < first < 1.0 and second < 0.3  # the page, then only the tools before it


def test_the_times_of_tools_are_told_once_they_are_known() -> None:
    @tool
    async def search(words: str) -> str:
        await asyncio.sleep(0.001)
        return "found"

    @plait.agent(tools=[search], max_turns=2)
    def helper(question: str) -> str:
        return question

    backend = Keeping(1)
    with Engine(backend=backend, max_rows=1) as engine:
        assert not engine.run(helper, [{"question": f"{i}"} for i in range(12)]).failed
    assert [bool(head.awaited[0]) for head in backend.heads[:9]] == [False] * 8 + [True]
    assert all(share <= 1.0 for _, share in backend.heads[-1].awaited[0])
