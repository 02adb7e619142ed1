"""Pure tools whose arguments no row has a say in are called while planning, and change nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

import plait
from plait import Engine, llm, tool, workflow
from plait.dag.estimates import Estimates, operator_key
from plait.dag.known import Known
from plait.dag.logical import Plan
from plait.dag.observed import Observed
from plait.dag.workflow import as_workflow
from plait.engine import known
from plait.engine.known import make_known_calls
from plait.engine.planning import plan_for
from plait.testing import FakeBackend, from_function

TOPICS = [{"topic": topic} for topic in ("ants", "bees", "ants")]


class Style(BaseModel):
    words: list[str]
    short: bool = True


def calls_of(kind: str) -> tuple[Any, list[str]]:
    """A tool that is a plain function or async, and what it was called with."""
    calls: list[str] = []

    @tool(effect="pure", name="style_of")
    def plain(name: str) -> Style:
        calls.append(name)
        return Style(words=[name, "calm"])

    @tool(effect="pure", name="style_of")
    async def waited(name: str) -> Style:
        await asyncio.sleep(0)
        calls.append(name)
        return Style(words=[name, "calm"])

    return (plain if kind == "plain" else waited), calls


@llm(max_tokens=8)
def write(topic: str, style: str) -> str:
    return f"{topic} in a {style} style"


def styled(style_of: Any) -> Any:
    @workflow
    def flow(topic: str) -> list[Any]:
        style = style_of("plain")
        short = plait.when(style.short, lambda: write(topic, style.words[0]), topic)
        return [short, style.words, style_of("plain").words]

    return flow


def engine_of(**settings: Any) -> Engine:
    return Engine(backend=FakeBackend(from_function(lambda text: text)), **settings)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_run_calls_such_a_tool_once_and_gives_the_same_rows(kind: str) -> None:
    style_of, calls = calls_of(kind)
    with engine_of() as engine:
        run = engine.run(styled(style_of), TOPICS)
        assert calls == ["plain"]
        assert run.outputs[0] == ["ants in a plain style", ["plain", "calm"], ["plain", "calm"]]
        off = engine.run(styled(style_of), TOPICS, disable=["fold_constants"])
        assert calls == ["plain"] * 2  # one for the whole batch, as merge_calls finds them
        for other in (off, engine.run(styled(style_of), TOPICS, plan=False)):
            assert other.outputs == run.outputs


def test_a_run_says_what_was_called_while_planning() -> None:
    style_of, _ = calls_of("plain")
    with engine_of() as engine:
        run = engine.run(styled(style_of), TOPICS)
    (made,) = run.plan.called
    assert "called while planning: style_of(name='plain') = Style(words=" in str(run.plan)
    assert run.plan.as_dict()["called"][0]["node"] == made.call.name == "style_of"
    counted = run.stats.nodes["style_of"]
    assert (counted.calls, counted.merged, counted.seen.sizes.count) == (1, 0, 1)
    (span,) = [s for s in run.stats.spans if s.operator == "ToolCall"]
    assert (span.row, span.ok) == ("planning", True) and span.end <= run.stats.planning_seconds
    assert not any(step.effect for step in run.plan.steps)


def test_explain_calls_it_as_well_and_once() -> None:
    style_of, calls = calls_of("async")
    with engine_of() as engine:
        plan = engine.explain(styled(style_of), TOPICS)
        assert calls == ["plain"] and plan.called
        assert not engine.explain(styled(style_of), TOPICS, disable=["fold_constants"]).called
        assert not engine.explain(styled(style_of), []).called  # no row asks
    assert calls == ["plain"]


async def test_async_tools_run_on_the_loop_of_the_run() -> None:
    loops: list[Any] = []

    @tool(effect="pure")
    async def where(name: str) -> str:
        loops.append(asyncio.get_running_loop())
        return name

    @workflow
    def flow(topic: str) -> list[str]:
        return [where("x"), topic]

    async with engine_of() as engine:
        await engine.arun(flow, TOPICS)
        await engine.aexplain(flow, TOPICS)
        await engine.arun_together([(flow, TOPICS), (flow, TOPICS)])
        assert loops == [asyncio.get_running_loop()] * 3
        assert engine.run(flow, TOPICS).outputs == [["x", row["topic"]] for row in TOPICS]


def test_workflows_that_run_together_make_the_call_once() -> None:
    style_of, calls = calls_of("plain")
    with engine_of() as engine:
        one, two = engine.run_together([(styled(style_of), TOPICS), (styled(style_of), TOPICS)])
    assert calls == ["plain"] and one.outputs == two.outputs
    assert one.stats.nodes["style_of"].calls == 1 and "style_of" not in two.stats.nodes


def test_rows_do_not_share_what_it_gave() -> None:
    style_of, _ = calls_of("plain")
    with engine_of() as engine:
        run = engine.run(styled(style_of), TOPICS)
    run.outputs[0][1].append("changed")
    assert run.outputs[0][2] == run.outputs[1][1] == run.outputs[2][1] == ["plain", "calm"]


@pytest.mark.parametrize("effect", ["read", "write"])
def test_other_effects_wait_for_their_rows(effect: Any) -> None:
    calls: list[str] = []

    @tool(effect=effect)
    def touch(name: str) -> str:
        calls.append(name)
        return name

    @workflow
    def flow(topic: str) -> list[str]:
        return [touch("x"), topic]

    with engine_of() as engine:
        assert not engine.explain(flow, TOPICS).called and not calls
        assert not engine.run(flow, TOPICS).plan.called


# -- calls that come to nothing --------------------------------------------------------------------


def wrong_size() -> Any:
    @tool(effect="pure", max_output=8)
    def make(name: str) -> str:
        return name * 9

    return make


def raising() -> Any:
    @tool(effect="pure")
    def make(name: str) -> str:
        raise SystemExit(name)

    return make


def wrong_type() -> Any:
    @tool(effect="pure")
    async def make(name: str) -> str:
        return 7  # type: ignore[return-value]

    return make


def cancelling() -> Any:
    @tool(effect="pure")
    async def make(name: str) -> str:
        raise asyncio.CancelledError

    return make


@pytest.mark.parametrize("make", [wrong_size, raising, wrong_type, cancelling])
def test_what_fails_stays_a_call_and_fails_its_rows(make: Callable[[], Any]) -> None:
    broken = make()

    @workflow
    def flow(topic: str) -> list[str]:
        return [broken("x"), topic]

    with engine_of() as engine:
        run = engine.run(flow, TOPICS)
        plain = engine.run(flow, TOPICS, disable=["fold_constants"])
    assert not run.plan.called
    assert [r.error for r in run] == [r.error for r in plain]
    assert all(row.error is not None and row.error.node == "make" for row in run)


@pytest.mark.parametrize("kind", ["plain", "async", "stubborn"])
def test_what_takes_long_is_left_to_the_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that does not return before the planner has given it up."""
    begun: list[str] = []
    given_up = threading.Event()

    def planning(*given: Any) -> Plan:
        given_up.set()
        return plan_for(*given)

    monkeypatch.setattr(known, "CALL_SECONDS", 0.02)
    monkeypatch.setattr("plait.engine.planning.plan_for", planning)

    @tool(effect="pure", name="slow")
    def plain(name: str) -> str:
        begun.append(name)
        assert given_up.wait(30)
        return name

    @tool(effect="pure", name="slow")
    async def waited(name: str) -> str:
        begun.append(name)
        while not given_up.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                if kind == "async":
                    raise
        return name

    slow = plain if kind == "plain" else waited

    @workflow
    def flow(topic: str) -> list[str]:
        return [slow("x"), topic]

    with engine_of() as engine:
        run = engine.run(flow, TOPICS)
        assert run.outputs == [["x", row["topic"]] for row in TOPICS] and not run.plan.called
        calls = len(begun)
        assert calls <= 2  # one while planning, if a thread took it up in time, and one in the run
        assert not engine.explain(flow, TOPICS).called
    assert len(begun) == calls, "known to be slow by now"


async def made(target: Any, expected: Estimates | None = None, rows: int = 3) -> Known:
    return await make_known_calls([(as_workflow(target), rows)], (), expected)


async def test_what_earlier_runs_found_slow_is_not_tried() -> None:
    style_of, calls = calls_of("async")
    flow, seen = styled(style_of), Observed()
    node = as_workflow(flow).nodes["style_of"]
    for seconds in (2.0, 3.0):
        seen.seconds.add(seconds)
    assert not await made(flow, Estimates(history={operator_key(node): seen}))
    assert not await made(flow, Estimates(given={operator_key(node): 5.0}))
    assert not calls
    assert await made(flow, Estimates(given={operator_key(node): 0.001}))


async def test_calls_and_values_are_bounded() -> None:
    calls: list[int] = []

    @tool(effect="pure")
    async def count(number: int) -> int:
        calls.append(number)
        return number + 1

    @tool(effect="pure")
    def fill(size: int) -> str:
        return "x" * size

    @workflow
    def many(topic: str) -> list[int]:
        return [count(n) for n in range(100)]

    @workflow
    def deep(topic: str) -> int:
        number: Any = 0
        for _ in range(100):
            number = count(number)
        return number  # type: ignore[no-any-return]

    @workflow
    def large(topic: str) -> list[str]:
        return [fill(10), fill(known.MOST_BYTES)]

    assert len(await made(many)) == len(calls) == known.MOST
    calls.clear()
    assert len(await made(deep)) == known.MOST and calls == [*range(known.MOST)]
    assert [len(one.value) for one in (await made(large)).values()] == [10]
    assert not await made(many, rows=0)


class Broken(BaseModel):
    name: str = "x"

    @property
    def main(self) -> str:
        raise ValueError("no main")


@pytest.mark.parametrize("given", [True, False], ids=["known", "by row"])
def test_a_value_whose_own_code_fails_fails_its_rows_only(given: bool) -> None:
    @tool(effect="pure")
    def config(name: str) -> Broken:
        return Broken()

    @workflow
    def flow(topic: str) -> str:
        made: Any = config("x" if given else topic)
        return write(topic, made.main)

    with Engine(backend=FakeBackend()) as engine:
        run = engine.run(flow, TOPICS)
    assert [row.status for row in run.rows] == ["error"] * 3
    assert all("no main" in row.error.message for row in run.rows if row.error)


def test_what_is_much_to_copy_or_cannot_be_told_apart_stays_a_call() -> None:
    @tool(effect="pure")
    def many() -> list[str]:
        return ["word"] * 1_000

    @tool(effect="pure")
    def few() -> list[str]:
        return ["word"] * 3

    @workflow
    def flow(topic: str) -> list[Any]:
        return [write(topic, many()[0]), write(topic, few()[0])]

    with Engine(backend=FakeBackend()) as engine:
        run = engine.run(flow, TOPICS)
    assert all(row.ok for row in run.rows)
    assert run.plan is not None and [one.call.name for one in run.plan.called] == ["few"]
