"""Prompts begun while their last values are awaited: same tokens, less to compute at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.dag.rehearsed_heads import KNOWN
from plait.engine.backends.backend import Call
from plait.engine.backends.local import LocalBackend
from plait.engine.backends.warm import Head, Kept
from plait.engine.heads import Heads
from plait.engine.llm.counters import Counters
from plait.engine.run import NodeStats, Stats
from plait.testing import FakeBackend, assert_same_rows, prompt_text

from .llm import models

LONG = "Read the page with care, then answer in few words. " * 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model=model) as engine:
        yield engine


def counters(engine: Engine) -> Counters:
    assert isinstance(engine.backend, LocalBackend)
    llm = engine.backend.llm("default")
    llm.explain()  # answered by its thread, after all that was asked before
    return llm.counters()


async def until_warmed(engine: Engine, tokens: int) -> None:
    """What a slow tool does here: wait until so much has been computed ahead, if ever."""
    for _ in range(400):
        if counters(engine).warmed_tokens >= tokens:
            return
        await asyncio.sleep(0.005)


def critical(run: plait.Run) -> int:
    """Prompt tokens that had to be computed when a prompt was whole."""
    return sum(row.usage.prompt_tokens - row.usage.cached_tokens for row in run)


def test_a_tool_between_calls_hides_the_prefill_of_the_next(engine: Engine) -> None:
    wait = 0

    @llm(max_tokens=2)
    def ask(question: str) -> str:
        return question

    @llm(max_tokens=4)
    def answer(page: str, found: str) -> str:
        return plait.prompt(plait.system(LONG), plait.user(f"Page: {page} Found: {found}"))

    @tool(effect="pure")
    async def look_up(words: str) -> str:
        await until_warmed(engine, wait)
        return "it is there"

    @workflow
    def flow(page: str, question: str) -> str:
        return answer(page, look_up(ask(question)))

    rows = [[{"page": f"{c} page " * 12, "question": f"what {c}?"}] for c in "abc"]
    engine.run(flow, rows[0], disable=["split_prefill"])  # the system prompt is cached now
    plain = engine.run(flow, rows[1], disable=["split_prefill"])
    before, wait = counters(engine), 90
    assert before.warmed_tokens == 0
    split = engine.run(flow, rows[2])
    after = counters(engine) - before
    assert 90 <= after.warmed_tokens == after.warmed_used
    assert critical(split) < 30 < 90 < critical(plain)
    assert critical(split) + after.warmed_tokens <= critical(plain) + 8  # earlier, not more
    assert after.held_pages == after.pins == 0
    assert_same_rows(split.rows, engine.run(flow, rows[2], plan=False).rows)


def test_a_trident_begins_its_late_prompts_while_tools_run(engine: Engine) -> None:
    wait = 0

    @llm(max_tokens=2)
    def ask(question: str) -> str:
        return question

    def late(name: str) -> Any:
        @llm(max_tokens=3)
        def write(found: str, question: str) -> str:
            return plait.prompt(plait.system(name + LONG), plait.user(f"{found}: {question}"))

        return write

    first, second, third = late("One. "), late("Two. "), late("Three. ")

    @tool(effect="pure")
    async def look_up(words: str) -> str:
        await until_warmed(engine, wait)
        return words[:4]

    @workflow
    def trident(question: str) -> list[str]:
        found = [look_up(ask(question)), look_up(question)]
        return [first(found[0], question), second(found[1], question), third(found[1], "why")]

    plain = engine.run(trident, [{"question": "a"}], disable=["split_prefill"])
    cold = critical(plain)
    with_heads = Engine(model=_path(engine))
    try:
        engine, wait = with_heads, 3 * 200
        split = engine.run(trident, [{"question": "a"}])
        now = counters(engine)
        assert critical(split) < cold / 4
        assert now.warmed_used == now.warmed_tokens >= 600
        assert now.pins == now.held_pages == 0
        assert_same_rows(plain.rows, split.rows)
    finally:
        with_heads.close()


def _path(engine: Engine) -> str:
    assert isinstance(engine.backend, LocalBackend)
    return str(engine.backend._paths["default"])


# -- what is asked of a backend --------------------------------------------------------------------


class Warming(FakeBackend):
    """A fake that notes which heads it was asked for and which were given back."""

    def __init__(self, answer: Any = lambda call: "yes") -> None:
        super().__init__(answer)
        self.heads: list[Head] = []
        self.released: list[int] = []

    async def warm(self, head: Head) -> Kept | None:
        number = len(self.heads)
        self.heads.append(head)
        return Kept(lambda: self.released.append(number))


@llm
def judge(page: str, found: str) -> str:
    return f"{LONG} {page} and {found}"


@tool
async def search(page: str) -> str:
    await asyncio.sleep(0.02)  # ten times as long as heads wait
    if page == "bad":
        raise ValueError("no")
    return f"found in {page}"


@workflow
def judged(page: str) -> str:
    return judge(page, search(page))


def test_every_head_is_given_back_once_however_its_row_ends() -> None:
    backend = Warming()
    with Engine(backend=backend) as engine:
        run = engine.run(judged, [{"page": p} for p in ("a", "b", "bad", "a")])
    assert [row.status for row in run] == ["ok", "ok", "error", "ok"]
    assert sorted(backend.released) == [0, 1, 2] and len(backend.heads) == 3  # "a" only once


def test_a_head_is_what_the_prompt_begins_with() -> None:
    backend = Warming(lambda call: prompt_text(call))
    with Engine(backend=backend) as engine:
        whole = engine.run(judged, [{"page": "a"}]).outputs[0]
    one, two = backend.heads[0].prompts
    assert one != two and isinstance(one, str) and isinstance(two, str)
    assert one.removesuffix("x") == two.removesuffix("0") == whole.removesuffix("found in a")


@workflow
def mapped(page: str) -> list[str]:
    return plait.map(judged, [page, "other"])


@workflow
def looped(page: str) -> str:
    return plait.loop(judged, page, max_iters=2)


@plait.plan_and_run(calls=[judge, search])
def planned(page: str) -> str:
    return page


TASKS = [
    {"call": "judge", "args": {"page": "first", "found": "#2"}},
    {"call": "search", "args": {"page": "first"}},
]


@pytest.mark.parametrize("flow, heads", [(mapped, 2), (looped, 2), (planned, 1)])
def test_bodies_begin_their_prompts_early_as_well(flow: Any, heads: int) -> None:
    """Also those that a model has planned only now."""

    def answer(call: Call) -> str:
        schema = call.sampling.json_schema
        return json.dumps({"tasks": TASKS, "answer": "#1"}) if schema else prompt_text(call)[-20:]

    found = []
    for disable, expected in (((), heads), (("split_prefill",), 0)):
        backend = Warming(answer)
        with Engine(backend=backend, disable=disable) as engine:
            found.append(engine.run(flow, [{"page": "a"}]).outputs)
        assert len(backend.heads) == len(backend.released) == expected
    assert found[0] == found[1] != [None]


@pytest.mark.parametrize("settings", [{"plan": False}, {"disable": ["split_prefill"]}])
def test_no_head_without_the_rule(settings: dict[str, Any]) -> None:
    backend = Warming()
    with Engine(backend=backend, **settings) as engine:
        engine.run(judged, [{"page": "a"}])
    assert not backend.heads


def test_no_head_for_what_only_the_side_not_taken_needs() -> None:
    @tool(effect="pure")
    async def yes(page: str) -> bool:
        await asyncio.sleep(0.02)
        return page == "a"

    @workflow
    def flow(page: str) -> str:
        return plait.when(yes(page), lambda: judge(page, search(page)), "nothing")

    backend = Warming()
    with Engine(backend=backend) as engine:
        assert engine.run(flow, [{"page": "b"}]).outputs == ["nothing"]
        assert not backend.heads
        assert engine.run(flow, [{"page": "a"}]).outputs == ["yes"]
        assert len(backend.heads) == len(backend.released) == 1


@pytest.mark.parametrize("seconds, heads", [(0.0001, 0), (0.5, 5)])
def test_values_that_come_at_once_are_not_worth_a_head(
    seconds: float, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a tool is known to take decides, not what it takes this time."""

    @tool(effect="pure")
    async def look(page: str) -> str:
        for _ in range(1_000 if heads else 2):  # so that there is time to ask for a head
            if len(backend.heads) <= int(page):
                await asyncio.sleep(0.005)
        return page

    @workflow
    def flow(page: str) -> str:
        return judge(page, look(page))

    monkeypatch.setattr(Heads, "times", lambda self, path: ((seconds, 1.0),))
    backend = Warming()
    with Engine(backend=backend, max_rows=1) as engine:
        engine.run(flow, [{"page": str(i)} for i in range(5)])
    assert len(backend.heads) == heads


def test_what_a_tool_takes_is_known_after_a_few_calls() -> None:
    stats = Stats()
    heads = Heads(Warming(), stats, wanted=True)
    counted = stats.nodes["flow/look"] = NodeStats("ToolCall")
    for _ in range(KNOWN - 1):
        counted.seen.seconds.add(0.01)
    assert heads.times("flow/look") == ()
    counted.seen.seconds.add(0.01)
    assert sum(share for _, share in heads.times("flow/look")) == pytest.approx(1.0)


def test_an_agent_shows_the_model_early_what_the_quick_tools_said() -> None:
    @tool
    async def quick(text: str) -> str:
        return "at once " * 20

    @tool
    async def slow(text: str) -> str:
        while len(backend.heads) < 2:  # one before, one behind what `quick` says
            await asyncio.sleep(0)
        return "at last"

    @plait.agent(tools=[quick, slow])
    def helper(question: str) -> str:
        return question

    def answer(call: Any) -> str:
        if "at last" in prompt_text(call):
            return "done"
        return "".join(
            f'<tool_call>{{"name": "{name}", "arguments": {{"text": "a"}}}}</tool_call>'
            for name in ("quick", "slow")
        )

    backend = Warming(answer)
    with Engine(backend=backend) as engine:
        assert engine.call(helper, question="q") == "done"
    assert len(backend.heads) == len(backend.released)
    shown = backend.heads[-1].prompts[0]
    assert isinstance(shown, list) and "at once" in shown[-2].content and shown[-1].content == "x"
