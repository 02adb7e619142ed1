"""Calls that come into being at run time: equal ones are one, and prefixes are counted exactly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait import llm, tool, workflow
from plait.dag.workflow import as_workflow
from plait.engine.backends.backend import Call
from plait.engine.executor import Executor
from plait.engine.expanded import Expanded
from plait.engine.generation import Generation
from plait.engine.row import RowState
from plait.engine.wiring import Wiring
from plait.testing import FakeBackend, prompt_text


@llm
def read(page: str, topic: str) -> str:
    return f"Page: {page} Topic: {topic} Read."


@llm
def check(page: str, said: str) -> str:
    return f"Page: {page} Said: {said} Check."


@workflow
def study(page: str, topic: str) -> str:
    return check(page, read(page, topic))


@tool(effect="pure")
def pages(book: str) -> list[str]:
    if book == "bad":
        raise ValueError("no such book")
    return book.split()


@workflow
def library(book: str, topic: str) -> list[str]:
    return plait.map(study, pages(book), topic=topic)


class Asking(FakeBackend):
    """Asks after every call what of it is still wanted, as the local engine does."""

    def __init__(self, failing: str = "") -> None:
        super().__init__(lambda call: f"<{call.prompt}>")
        self.failing = failing
        self.wanted: list[tuple[str, float]] = []

    async def generate(self, call: Call) -> list[Generation]:
        await asyncio.sleep(0)
        if self.failing and self.failing in str(call.prompt):
            raise plait.GenerationError("no")
        done = await super().generate(call)
        if call.still_wanted is not None:
            self.wanted.append((str(call.prompt), call.still_wanted()))
        return done


async def run(rows: list[dict[str, Any]], backend: Asking) -> Executor:
    executor = Executor(library.workflow, backend)
    assert len([row async for row in executor.run(rows)]) == len(rows)
    return executor


def rows(*books: str, topic: str = "t") -> list[dict[str, Any]]:
    return [{"book": book, "topic": topic} for book in books]


async def test_rows_that_share_pages_share_their_calls() -> None:
    backend = Asking()
    executor = await run(rows("a b", "b c", "c a b"), backend)
    assert backend.calls == 6  # three pages, each read and checked once
    counted = executor.stats.nodes["map_study/read"]
    assert (counted.calls, counted.merged) == (7, 4)
    assert len(backend.wanted) == 6


async def test_a_prefix_is_wanted_until_its_last_call_has_ended() -> None:
    backend = Asking()
    await run(rows("a b"), backend)
    wanted = {prompt.partition(" Said")[0]: share for prompt, share in backend.wanted}
    for page in "ab":
        head = len(f"Page: {page} Topic: ") / len(f"Page: {page} Topic: t Read.")
        assert wanted[f"Page: {page} Topic: t Read."] == pytest.approx(head)  # it will be checked
        last = next(p for p, _ in backend.wanted if p.startswith(f"Page: {page} Said"))
        assert dict(backend.wanted)[last] == pytest.approx(len("Page: ") / len(last))


async def test_what_further_rows_may_bring_stays() -> None:
    """As long as a row may still expand the map, only what is behind the page may go."""
    release = asyncio.Event()

    @tool(effect="pure")
    async def late(book: str) -> list[str]:
        if book == "late":
            await release.wait()
        return book.split()

    @workflow
    def slow(book: str, topic: str) -> list[str]:
        return plait.map(study, late(book), topic=topic)

    class Releasing(Asking):
        async def generate(self, call: Call) -> list[Generation]:
            done = await super().generate(call)
            if "Said" in str(call.prompt):
                release.set()
            return done

    backend = Releasing()
    executor = Executor(slow.workflow, backend)
    assert [row.ok async for row in executor.run(rows("a", "late"))] == [True, True]
    shares = dict(backend.wanted)
    first = next(p for p in shares if p.startswith("Page: a Said"))
    other = next(p for p in shares if p.startswith("Page: late Said"))
    assert shares[first] == pytest.approx(len("Page: a Said: ") / len(first))
    assert shares[other] == pytest.approx(len("Page: ") / len(other))


def clean(executor: Executor) -> bool:
    assert executor.sharing is not None and executor.sharing.expanded is not None
    expanded = executor.sharing.expanded
    assert all(count == 0 for count in expanded.to_come.values()) and expanded.to_come
    return not expanded.left and not expanded._calls


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "a b", "b a c", "", "bad", "c c c"]), max_size=6),
    st.sampled_from(["", "Page: b", "Said: <Page: a"]),
)
def test_nothing_is_counted_when_a_run_has_ended_however_it_went(
    books: list[str], failing: str
) -> None:
    assert clean(asyncio.run(run(rows(*books), Asking(failing))))


async def test_a_run_that_is_cancelled_leaves_no_body_open() -> None:
    class Stuck(Asking):
        async def generate(self, call: Call) -> list[Generation]:
            await asyncio.sleep(3600)
            raise AssertionError

    executor = Executor(library.workflow, Stuck())
    running = executor.run(rows("a b", "b"))
    first = asyncio.ensure_future(anext(running))
    while executor.sharing is None or not executor.sharing.expanded._calls:  # type: ignore[union-attr]
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await running.aclose()  # type: ignore[attr-defined]
    assert clean(executor)


async def test_without_liveness_nothing_is_counted() -> None:
    from plait.engine.options import Options

    backend = Asking()
    executor = Executor(library.workflow, backend, Options(disable=("liveness",)))
    assert [row.ok async for row in executor.run(rows("a"))] == [True]
    assert not backend.wanted and executor.sharing is not None
    assert executor.sharing.expanded is None


# -- rounds of a loop, tasks that a model planned --------------------------------------------------


@workflow
def improve(page: str) -> str:
    return check(page, read(page, "t"))


@workflow
def improved(page: str) -> str:
    return plait.loop(improve, page, max_iters=2)


def left(executor: Executor) -> tuple[int, int]:
    assert executor.sharing is not None and executor.sharing.expanded is not None
    return sum(executor.sharing.expanded.left.values()), len(executor.sharing.expanded._calls)


async def test_of_a_round_what_came_into_being_in_it_is_let_go() -> None:
    backend = Asking()
    executor = Executor(improved.workflow, backend)
    assert [row.ok async for row in executor.run([{"page": "a"}])] == [True]
    assert left(executor) == (0, 0) and len(backend.wanted) == 4
    states = ["a", "<Page: a Said: <Page: a Topic: t Read.> Check.>"]
    for state, *two in zip(states, backend.wanted[::2], backend.wanted[1::2], strict=True):
        (reading, of_reading), (checking, of_checking) = two
        assert reading == f"Page: {state} Topic: t Read." and of_reading == 1.0
        # A further round may begin with the same state, not with what was said in this one.
        assert of_checking == pytest.approx(len(f"Page: {state} Said: ") / len(checking))


@plait.plan_and_run(calls=[read, check])
def planned(question: str) -> str:
    return question


@workflow
def planning(question: str) -> str:
    return planned(question)


TASKS = [
    {"call": "read", "args": {"page": "a", "topic": "#2"}},
    {"call": "read", "args": {"page": "a", "topic": "t"}},
    {"call": "check", "args": {"page": "a", "said": "#1"}},
]


class Planner(Asking):
    """Plans the same three tasks for everybody."""

    def __init__(self, failing: str = "") -> None:
        super().__init__(failing)
        said = json.dumps({"tasks": TASKS, "answer": "#3"})
        self._answer = lambda call: said if "Plan " in prompt_text(call) else f"<{call.prompt}>"


async def test_planned_tasks_are_counted_as_soon_as_they_are_planned() -> None:
    backend = Planner()
    executor = Executor(planning.workflow, backend)
    assert [row.ok async for row in executor.run([{"question": "q"}])] == [True]
    shares = {p: share for p, share in backend.wanted if p.startswith("Page: ")}
    assert len(shares) == 3 and left(executor) == (0, 0)
    late = next(p for p in shares if p.startswith("Page: a Topic: <"))
    # What task 2 said came into being among the tasks, and nobody else begins with it.
    assert shares[late] == pytest.approx(len("Page: a Topic: ") / len(late))
    assert shares["Page: a Topic: t Read."] == 1.0


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([improved, planning]),
    st.integers(1, 3),
    st.sampled_from(["", "Said: ", "Topic: <", "Topic: t"]),
    st.integers(0, 60),
)
def test_nothing_is_counted_behind_rounds_and_tasks_however_they_end(
    flow: Any, count: int, failing: str, patience: int
) -> None:
    name = next(iter(flow.workflow.inputs)).id

    async def go() -> tuple[int, int]:
        executor = Executor(flow.workflow, Planner(failing))

        async def every() -> None:
            async for _ in executor.run([{name: f"{i}"} for i in range(count)]):
                pass

        running = asyncio.ensure_future(every())
        for _ in range(patience):
            await asyncio.sleep(0)
        if patience % 2:
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return left(executor) if executor.sharing is not None else (0, 0)

    assert asyncio.run(go()) == (0, 0)


texts = st.sampled_from(["a", "b", "ab", ""])


@settings(max_examples=100)
@given(st.lists(st.tuples(texts, texts, st.integers(0, 2)), max_size=12))
def test_counts_are_those_of_the_bodies_that_are_open(
    acts: list[tuple[str, str, int]],
) -> None:
    """Against counting from scratch: the pages and topics of distinct calls to come."""
    wiring = Wiring(as_workflow(study)).prepare()
    expanded = Expanded()
    open_bodies: list[tuple[Any, str, str]] = []
    for page, topic, closed in acts:
        body = expanded.body(wiring, {"page": page, "topic": topic}, RowState(0, 0))
        open_bodies.append((body, page, topic))
        if closed and open_bodies:
            open_bodies.pop(0)[0].close()
        # `read` is known whole, so equal ones are one call; of `check` only the page is known.
        reads = {(p, t) for _, p, t in open_bodies}
        assert sum(expanded.left.values()) == 2 * len(reads) + len(open_bodies)
    for body, _, _ in open_bodies:
        body.close()
    assert not expanded.left and not expanded._calls
