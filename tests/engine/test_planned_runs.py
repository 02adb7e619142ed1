"""Runs with a plan give the rows that runs without one give, with fewer calls."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import plait
from plait import Engine, llm, tool, workflow
from plait.engine.backends.backend import Call
from plait.engine.row import Row
from plait.engine.single_flight import SingleFlight
from plait.testing import FakeBackend, from_function, prompt_text


class Facts(BaseModel):
    names: list[str]


@llm(max_tokens=8)
def draft(topic: str) -> str:
    return f"about {topic}"


@llm(max_tokens=8)
def about(what: str) -> str:
    return f"about {what}"


@llm(max_tokens=8)
def join(a: str, b: str) -> str:
    return f"join {a} {b}"


@llm(max_tokens=8, temperature=1.0)
def sample(topic: str) -> str:
    return f"sample {topic}"


@llm(max_tokens=8, temperature=1.0, seed=5)
def seeded(topic: str) -> str:
    return f"seeded {topic}"


@llm(max_tokens=30)
def extract(text: str) -> Facts:
    return plait.prompt(plait.system("List names."), plait.user(text))


@tool(effect="pure")
def upper(text: str) -> str:
    if text.endswith("boom"):
        raise ValueError("no boom")
    return text.upper()


@tool(effect="pure")
def split(text: str) -> list[str]:
    return text.split()


@tool(effect="pure")
def is_long(text: str) -> bool:
    return len(text) > 18


@tool(effect="read")
def peek(text: str) -> str:
    return f"<{text}>"


TEXTS: list[Any] = [draft, about, sample, seeded, upper, peek]


def answer(call: Call) -> str:
    """Depends on all that may tell calls apart, as a model does."""
    text = prompt_text(call)
    if call.sampling.json_schema is not None:
        names = ", ".join(f'"{w}"' for w in text.split()[-2:] if w.isalnum())
        return f'{{"names": [{names}]}}'
    mark = "" if call.sampling.greedy else f"#{(call.sampling.seed or call.seed) % 97}"
    return f"{text[-24:]}{mark}"


def build(shape: list[tuple[int, int, int]]) -> Any:
    """A random workflow: each step takes values that are there and adds one."""

    def flow(topic: str, other: str) -> list[Any]:
        values: list[Any] = [topic, other, "a b", "boom"]
        for kind, one, two in shape:
            a, b = values[one % len(values)], values[two % len(values)]
            if kind < len(TEXTS):
                values.append(TEXTS[kind](a))
            elif kind == len(TEXTS):
                values.append(join(a, b))
            elif kind == len(TEXTS) + 1:
                values.append(plait.when(is_long(a), lambda b=b: draft(b), a))
            elif kind == len(TEXTS) + 2:
                upper_all = plait.map(upper, split(a))
                values.append(draft(upper_all[0]))
            elif kind == len(TEXTS) + 3:
                values.append(plait.loop(draft, a, max_iters=2))
            else:
                values.append(extract(a).names[0])
        return values[4:] or values

    return workflow(flow)


def run(target: Any, rows: list[dict[str, Any]], **options: Any) -> tuple[Any, int]:
    backend = FakeBackend(answer)
    with Engine(backend=backend, max_rows=3) as engine:
        return engine.run(target, rows, **options), backend.calls


words = st.sampled_from(["bees", "ants", "boom", "a b", "long words here", ""])
steps = st.tuples(st.integers(0, len(TEXTS) + 4), st.integers(0, 9), st.integers(0, 9))
rows_of = st.lists(st.fixed_dictionaries({"topic": words, "other": words}), max_size=7)


def row_or_failure(row: Row) -> tuple[Any, ...]:
    """A row's outcome. Of a row in which several nodes fail, the first to fail in time is told."""
    return row.id, row.status, row.output


def test_runs_of_one_engine_share_nothing() -> None:
    backend = FakeBackend(answer)
    with Engine(backend=backend) as engine:
        for _ in range(2):
            engine.run(draft, [{"topic": "bees"}, {"topic": "bees"}])
    assert backend.calls == 2, "equal rows share a call, repeats of a run do not"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=7), rows_of)
def test_rows_equal_those_without_a_plan(
    shape: list[tuple[int, int, int]], rows: list[dict[str, Any]]
) -> None:
    target = build(shape)
    plain, all_calls = run(target, rows, plan=False)
    planned, calls = run(target, rows)
    both_ways = [[row_or_failure(row) for row in found] for found in (plain, planned)]
    assert both_ways[0] == both_ways[1]
    failed = [(r.error.node, r.error.message) for r in plain if r.error]
    assert len(failed) == len([r for r in planned if r.error])
    if not failed:  # a failing row stops in another place when others are quicker
        assert calls <= all_calls
        nodes = [n for n in planned.stats.nodes.values() if n.operator == "LLMCall"]
        asked, ran = sum(n.calls for n in nodes), sum(n.calls - n.merged for n in nodes)
        assert ran == calls and asked <= all_calls


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=5), rows_of, st.sampled_from([
    "fold_constants", "prune_unused", "reorder_parts", "merge_calls", "share_prefixes",
    "order_rows", "single_flight", "split_prefill", "hoist_tools", "liveness",
]))  # fmt: skip
def test_rows_equal_with_any_rule_left_out(
    shape: list[tuple[int, int, int]], rows: list[dict[str, Any]], name: str
) -> None:
    target = build(shape)
    one, two = run(target, rows)[0], run(target, rows, disable=[name])[0]
    assert [*map(row_or_failure, one)] == [*map(row_or_failure, two)]


def test_equal_calls_are_made_once() -> None:
    @workflow
    def twice(topic: str) -> str:
        return join(draft(topic), about(topic))

    rows = [{"topic": t} for t in ("a", "b", "a", "a")]
    result, calls = run(twice, rows)
    assert calls == 4  # two drafts, two joins
    assert result.stats.nodes["draft"].calls == 4
    assert result.stats.merged == 12 - 4
    assert run(twice, rows, plan=False)[1] == 12
    assert run(twice, rows, disable=["merge_calls", "single_flight"])[1] == 12
    assert run(twice, rows, disable=["merge_calls"])[1] == 4  # found when the prompts are there
    assert run(twice, rows, disable=["single_flight"])[1] == 4  # found by the plan


def test_what_becomes_equal_at_run_time_is_found() -> None:
    @tool(effect="pure")
    def same(text: str) -> str:
        return "always"

    @workflow
    def meets(topic: str) -> str:
        return draft(same(topic))

    _, calls = run(meets, [{"topic": str(i)} for i in range(5)])
    assert calls == 1


def test_draws_without_a_seed_are_never_merged() -> None:
    result, calls = run(sample, [{"topic": "a"}] * 6)
    assert calls == 6 and len(set(result.outputs)) > 1
    result, calls = run(seeded, [{"topic": "a"}] * 6)
    assert calls == 1 and len(set(result.outputs)) == 1


def test_tools_by_effect() -> None:
    ran = itertools.count()
    counts = {"pure": 0, "read": 0, "write": 0}

    def make(effect: Any) -> Any:
        @tool(effect=effect)
        async def work(text: str) -> str:
            counts[effect] += 1
            await asyncio.sleep(0.01)
            return f"{text}{next(ran)}" if effect == "write" else text

        return work

    for effect in counts:
        run(make(effect), [{"text": "a"}] * 6, disable=["hoist_tools"])
    # Three rows run at once: reads are shared only while they are under way.
    assert counts == {"pure": 1, "read": 2, "write": 6}

    reads, writes = make("read"), make("write")

    @workflow
    def both(text: str) -> list[str]:
        return [reads(text), writes(text)]

    counts.update(read=0, write=0)
    run(both, [{"text": "a"}] * 6)
    assert counts["read"] == 6 and counts["write"] == 6


def test_rows_do_not_see_each_others_changes() -> None:
    @workflow
    async def live(text: str) -> list[str]:
        parts = await split.acall(text)
        parts.append("mine")
        return parts

    result, _ = run(live, [{"text": "a b"}] * 4)
    assert result.outputs == [["a", "b", "mine"]] * 4
    result, _ = run(split, [{"text": "a b"}] * 3)
    result.outputs[0].append("changed")
    assert result.outputs[1] == ["a", "b"]


def test_a_failing_call_fails_its_rows_by_their_own_names() -> None:
    @workflow
    def risky(topic: str) -> list[str]:
        return [upper(topic), plait.map(upper, split(topic))[0]]

    rows = [{"topic": t} for t in ("fine", "boom", "boom", "fine")]
    result, _ = run(risky, rows)
    assert [r.status for r in result] == ["ok", "error", "error", "ok"]
    assert {r.error.type for r in result.failed if r.error} == {"ToolError"}
    assert all(r.error and r.error.node in ("upper", "map_upper[0]/upper") for r in result.failed)


def test_rows_start_in_the_order_of_the_plan_and_come_back_in_their_own() -> None:
    seen: list[str] = []

    def note(text: str) -> str:
        seen.append(text.split()[-1])
        return "yes"

    @llm
    def read(document: str, question: str) -> str:
        return f"Document: {document} Question: {question}"

    rows = [{"document": f"long text {i % 2} " * 20, "question": f"q{i}"} for i in range(6)]
    with Engine(backend=FakeBackend(from_function(note)), max_rows=2) as engine:
        result = engine.run(read, rows)
    assert seen == ["q0", "q2", "q4", "q1", "q3", "q5"]
    assert [r.index for r in result] == list(range(6))
    assert result.plan.rows == 6 and result.stats.planning_seconds > 0


def test_rows_that_cannot_be_read_keep_the_others_in_their_places() -> None:
    rows: list[Any] = [plait.InputError("torn line"), {"topic": "a"}, {"other": 1}, {"topic": "a"}]
    result, calls = run(draft, rows)
    assert [r.status for r in result] == ["error", "ok", "error", "ok"] and calls == 1
    assert [r.output for r in result][1::2] == ["about a", "about a"]


def test_streams_share_without_a_plan() -> None:
    backend = FakeBackend(answer)
    with Engine(backend=backend) as engine:
        rows = list(engine.stream(draft, ({"topic": "a"} for _ in range(5))))
    assert len(rows) == 5 and backend.calls == 1


def test_kept_results_go_when_the_last_row_that_wants_them_ends() -> None:
    from plait.engine.executor import Executor
    from plait.engine.options import Options

    async def drain() -> tuple[bool, bool]:
        executor = Executor(plait.dag.workflow.as_workflow(draft), FakeBackend(answer), Options(1))
        held = []
        async for _ in executor.run([{"topic": "a"}, {"topic": "b"}, {"topic": "a"}]):
            assert executor.sharing is not None and executor.plan is not None
            (classes,) = (executor.plan.parts[0].classes or {}).values()
            held.append(executor.sharing.flights.has(("class", classes[0])))
        return held[0], held[-1]

    import plait.dag.workflow

    assert asyncio.run(drain()) == (True, False)


def test_what_the_plan_knows_to_be_asked_for_again_is_done_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much comes between that nobody asks for again."""
    few = functools.partial(SingleFlight, limit=1_000)
    monkeypatch.setattr("plait.engine.planning.SingleFlight", few)
    rows = [{"topic": t} for t in ("a", *map(str, range(200)), "a")]
    result, calls = run(draft, rows, disable=["order_rows"])
    assert calls == 201 and result.outputs[0] == result.outputs[-1]
    monkeypatch.setattr("plait.engine.planning.SingleFlight", lambda: few(most_wanted=0))
    assert run(draft, rows, disable=["order_rows"])[1] == 202  # a bound it has


def test_names_of_rules_are_checked() -> None:
    with Engine(backend="fake") as engine:
        with pytest.raises(plait.ConfigError, match="known are .*merge_calls.*single_flight"):
            engine.run(draft, [], disable=["merging"])
        with pytest.raises(plait.ConfigError):
            Engine(backend="fake", disable=["merging"])
        with pytest.raises(plait.ConfigError, match="'merge_calls' is a text: give a collection"):
            engine.run(draft, [], disable="merge_calls")


def test_rules_are_left_out_of_plans_alone() -> None:
    off, what = ["merge_calls"], "plan=False.*disable=.'merge_calls'.*contradict"
    with Engine(backend="fake") as engine, Engine(backend="fake", plan=False) as plain:
        for refused in (
            lambda: engine.run(draft, [], plan=False, disable=off),
            lambda: plain.run(draft, [], disable=off),
            lambda: plain.explain(draft, disable=off),
            lambda: Engine(backend="fake", plan=False, disable=off),
        ):
            with pytest.raises(plait.ConfigError, match=what):
                refused()
        assert plain.run(draft, [], plan=True, disable=off).plan is not None
        assert plain.run_together([(draft, [])], disable=off)  # always under a plan
    with Engine(backend="fake", disable=off) as engine:
        assert len(engine.run(draft, [{"topic": "a"}], plan=False)) == 1  # the run's word goes


class Aliased(FakeBackend):
    """Knows one model under two names, and another."""

    aliases: ClassVar[dict[str, str]] = {"default": "default", "same": "default", "big": "big"}


@pytest.mark.parametrize(
    ("disable", "merged"), [((), 4), (("single_flight",), 2), (("merge_calls",), 4)]
)
def test_calls_to_aliases_of_one_model_are_merged(disable: tuple[str, ...], merged: int) -> None:
    """When planned, and when they turn out equal on the way; never those to another model."""

    def asks(model: str) -> Any:
        @llm(model=model)
        def ask(topic: str) -> str:
            return f"about {topic}"

        return ask

    @tool(effect="read")
    def shout(text: str) -> str:
        return text.upper()

    default, same, big, later = (asks(m) for m in ("default", "same", "big", "same"))

    @workflow
    def flow(topic: str) -> list[str]:
        return [default(topic), same(topic), big(topic), later(shout(topic)), default(shout(topic))]

    with Engine(backend=(backend := Aliased())) as engine:
        run = engine.run(flow, [{"topic": "a"}, {"topic": "b"}], disable=disable)
        plain = engine.run(flow, [{"topic": "a"}, {"topic": "b"}], plan=False)
    assert run.outputs == plain.outputs
    assert sum(seen.merged for name, seen in run.stats.nodes.items() if "ask" in name) == merged
    assert backend.calls == 10 - merged + 10
