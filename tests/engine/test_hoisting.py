"""Tool calls made before their rows' turn: same rows, each call made once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.engine import admission
from plait.engine.executor import Executor
from plait.engine.hoisting import Hoisting
from plait.testing import FakeBackend, assert_same_rows

called: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _one_busy_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BUSY", 1)
    called.clear()


@tool(effect="pure")
async def look_up(name: str) -> str:
    called[name] += 1
    await asyncio.sleep(0)
    if name == "bad":
        raise ValueError("no such thing")
    return f"found {name}"


@llm
def write(name: str) -> str:
    return f"About {name}"


@llm
def join(text: str, found: str) -> str:
    return f"{text}, {found}"


@workflow
def both(name: str) -> str:
    return join(write(name), look_up(name))


class Model(FakeBackend):
    """Notes which tools had been called when it was first asked, having waited a while."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    async def generate(self, call: Any) -> Any:
        for _ in range(20):
            await asyncio.sleep(0)
        self.seen = self.seen or set(called)
        return await super().generate(call)


def rows(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def test_tools_of_later_rows_work_while_the_model_writes_for_the_first() -> None:
    ahead, after = Model(), Model()
    with Engine(backend=ahead) as engine:
        one = engine.run(both, rows("a", "b", "c"))
    assert ahead.seen == {"a", "b", "c"}
    called.clear()
    with Engine(backend=after, disable=["hoist_tools"]) as engine:
        two = engine.run(both, rows("a", "b", "c"))
    assert "c" not in after.seen
    assert_same_rows(one.rows, two.rows)
    assert one.stats.nodes["look_up"].calls == two.stats.nodes["look_up"].calls == 3


def test_every_call_is_made_once_and_equal_ones_are_one() -> None:
    with Engine(backend=Model()) as engine:
        run = engine.run(both, rows("a", "b", "a", "a", "b", "c"))
    assert called == {"a": 1, "b": 1, "c": 1}
    counted = run.stats.nodes["look_up"]
    assert (counted.calls, counted.merged, counted.errors) == (6, 3, 0)
    assert run.outputs[3] == "About a, found a"


def test_a_failure_is_its_rows_alone() -> None:
    with Engine(backend=Model()) as engine:
        run = engine.run(both, [*rows("a", "bad", "c"), {"other": 1}])
    assert [row.status for row in run] == ["ok", "error", "ok", "error"]
    error = run.rows[1].error
    assert error is not None and (error.type, error.node) == ("ToolError", "look_up")
    assert run.stats.nodes["look_up"].errors == 1


def test_no_more_calls_are_ahead_than_rows_may_be_under_way() -> None:
    model = Model()
    with Engine(backend=model, max_rows=2) as engine:
        run = engine.run(both, rows(*"abcdefgh"))
    assert len(model.seen) <= 4 and all(row.ok for row in run)


async def test_what_nobody_asks_for_is_cancelled_when_the_run_ends() -> None:
    ended: list[str] = []

    @tool(effect="pure")
    async def forever(name: str) -> str:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)
        return name

    @workflow
    def flow(name: str) -> str:
        return join(write(name), forever(name))

    executor = Executor(flow.workflow, FakeBackend())
    running = executor.run(rows("a", "b", "c"))
    first = asyncio.ensure_future(anext(running))
    while not executor.hoisting or len(executor.hoisting._calls) < 2:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await running.aclose()  # type: ignore[attr-defined]
    assert not executor.hoisting._calls and set(ended) >= {"b", "c"}


@pytest.mark.parametrize("slow", [False, True])
def test_behind_a_branch_only_what_is_known_to_be_quick(
    slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plait.engine import hoisting

    monkeypatch.setattr(hoisting, "CHEAP", 0.0 if slow else 10.0)

    @llm
    def sure(name: str) -> bool:
        return plait.prompt(plait.user(name))

    @workflow
    def flow(name: str) -> str:
        return plait.when(sure(name), look_up(name), "nothing")

    def answer(call: Any) -> str:
        return "true" if call.prompt[-1].content < "c" else "false"

    with Engine(backend=FakeBackend(answer), max_rows=1) as engine:
        run = engine.run(flow, rows("a", "b", "c", "d"))
    assert run.outputs == ["found a", "found b", "nothing", "nothing"]
    assert set(called) == ({"a", "b"} if slow else {"a", "b", "c", "d"})
    assert max(called.values()) == 1


@tool(effect="pure")
async def page(number: int) -> dict[str, Any]:
    called[f"page {number}"] += 1
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError("no such page")
    return {"title": f"title {number}", "links": [number + 1]}


@workflow
def chained(name: str, number: int) -> str:
    return join(write(name), look_up(page(page(number)["links"][0])["title"]))


def test_chains_of_tools_are_made_ahead_link_by_link() -> None:
    batch = [{"name": "n", "number": n} for n in (0, 10, 20, 10)]
    ahead, after = Model(), Model()
    with Engine(backend=ahead) as engine:
        one = engine.run(chained, batch)
    links = {"page 10", "page 11", "title 11", "page 20", "page 21", "title 21"}
    assert links <= ahead.seen, "before the model had answered for the first row"
    assert set(called.values()) == {1}
    called.clear()
    with Engine(backend=after, disable=["hoist_tools"]) as engine:
        two = engine.run(chained, batch)
    assert "title 21" not in after.seen
    assert_same_rows(one.rows, two.rows)
    for node, seen in one.stats.nodes.items():
        assert (seen.calls, seen.merged) == (
            two.stats.nodes[node].calls,
            two.stats.nodes[node].merged,
        )


def test_behind_a_link_that_fails_nothing_is_called() -> None:
    batch = [{"name": "n", "number": n} for n in (0, -1, -2, 3, -1)]
    with Engine(backend=Model()) as engine:
        run = engine.run(chained, batch)
    assert [row.status for row in run] == ["ok", "error", "error", "ok", "error"]
    nodes = [row.error.node for row in run if row.error is not None]
    assert nodes == ["page"] * 3 and run.stats.nodes["page_2"].calls == 2
    assert run.stats.nodes["look_up"].errors == 0 and "page -1" in called


def test_a_call_that_was_given_up_is_made_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    async def give_up(*_: Any) -> Any:
        raise asyncio.CancelledError

    monkeypatch.setattr(Hoisting, "_make", give_up)
    with Engine(backend=Model()) as engine:
        run = engine.run(chained, [{"name": "n", "number": n} for n in (0, 10, 20)])
    assert all(row.ok for row in run) and set(called.values()) == {1}


def test_side_effects_wait_for_their_turn_and_reads_for_them() -> None:
    @tool(effect="read")
    async def read(name: str) -> str:
        called[f"read {name}"] += 1
        return name

    @tool
    async def note(name: str) -> str:
        called[f"note {name}"] += 1
        return name

    @workflow
    def reads(name: str) -> str:
        return join(write(name), read(name))

    @workflow
    def writes(name: str) -> str:
        return join(read(name), note(name))

    with Engine(backend=(model := Model())) as engine:
        engine.run(reads, rows("a", "b"))
        told = str(engine.explain(writes, rows("a", "b")))
    assert model.seen == {"read a", "read b"} and set(called.values()) == {1}
    assert "called before its turn" not in told
