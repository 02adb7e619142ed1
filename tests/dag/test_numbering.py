"""Value numbering: what gets one number, and what must not."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

import plait
from plait import llm, tool, workflow
from plait.dag.keys import Unkeyed, value_key
from plait.dag.plan import Plan, make_plan, plan_together

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(json_values, json_values)
def test_values_with_one_key_print_alike(one: Any, two: Any) -> None:
    if value_key(one) == value_key(two):
        assert repr(one) == repr(two) and json.dumps(one) == json.dumps(two)
        assert hash(value_key(one)) == hash(value_key(two))


@given(json_values)
def test_a_copy_has_the_same_key(value: Any) -> None:
    def copied(value: Any) -> Any:
        if isinstance(value, list):
            return [copied(v) for v in value]
        return {k: copied(v) for k, v in value.items()} if isinstance(value, dict) else value

    assert value_key(value) == value_key(copied(value))


def test_look_alikes_have_their_own_keys() -> None:
    class Point(BaseModel):
        x: int

    class Other(BaseModel):
        x: int

    alike: list[Any] = [
        1,
        1.0,
        True,
        "1",
        b"1",
        [1],
        (1,),
        {"x": 1},
        Point(x=1),
        Other(x=1),
        0.0,
        -0.0,
    ]
    assert len({value_key(v) for v in alike}) == len(alike)
    assert value_key({"a": 1, "b": 2}) != value_key({"b": 2, "a": 1})
    assert value_key(Point(x=1)) == value_key(Point(x=1))
    assert value_key(float("nan")) == value_key(float("nan"))
    for odd in (object(), {1, 2}, lambda: 0):
        with pytest.raises(Unkeyed):
            value_key(odd)


@llm(max_tokens=8)
def draft(topic: str) -> str:
    return f"about {topic}"


@llm(max_tokens=8)
def about(what: str) -> str:
    return f"about {what}"


@llm(max_tokens=8)
def show(value: Any) -> str:
    return f"show {value}"


class Page(BaseModel):
    title: str
    body: str


def strip(text: str) -> str:
    return text.strip()


def merged(plan: Plan) -> list[int | None]:
    return [s.merged for s in plan.steps if s.model or s.effect]


def test_operators_with_the_same_words_are_one() -> None:
    @workflow
    def both(topic: str) -> list[str]:
        return [draft(topic), about(topic)]

    assert merged(make_plan(both.workflow, [{"topic": "a"}])) == [1, 0]


def test_what_a_column_is_read_as_counts() -> None:
    @workflow
    def as_int(value: int) -> str:
        return show(value)

    @workflow
    def as_any(value: Any) -> str:
        return show(value)

    rows: list[Any] = [{"value": 1}, {"value": "1"}, {"value": 1}]
    plan = plan_together([(as_int.workflow, rows), (as_any.workflow, rows)])
    # In the first workflow "1" is read as 1, which planning does not try: it stays on its own.
    assert merged(plan) == [2, 1]


def test_fields_of_dicts_are_looked_into_and_those_of_models_are_not() -> None:
    @workflow
    def of_dict(page: dict[str, str]) -> str:
        return draft(page["title"])

    @workflow
    def of_model(page: Page) -> str:
        return draft(page.title)

    rows = [{"page": {"title": "t", "body": str(i)}} for i in range(3)]
    assert merged(make_plan(of_dict.workflow, rows)) == [1]
    # A model's validators may make its title out of its body.
    assert merged(make_plan(of_model.workflow, rows)) == [3]
    assert merged(make_plan(of_model.workflow, [rows[0]] * 3)) == [1]


def test_rows_that_cannot_be_read_share_nothing() -> None:
    @workflow
    def one(topic: str) -> str:
        return draft(topic)

    rows: list[Any] = [None, None, {}, {}, {"topic": "a"}, {"topic": "a"}]
    assert merged(make_plan(one.workflow, rows)) == [5]


def test_annotated_types_with_validators() -> None:
    @workflow
    def one(topic: Annotated[str, AfterValidator(strip)]) -> str:
        return draft(topic)

    assert merged(make_plan(one.workflow, [{"topic": "a"}, {"topic": "a "}, {"topic": "a"}])) == [2]


def test_tools_of_one_name_are_told_apart() -> None:
    def make(mark: str) -> Any:
        @tool(effect="pure")
        def same(text: str) -> str:
            return text + mark

        return same

    first, second = make("!"), make("?")

    @workflow
    def both(text: str) -> list[str]:
        return [first(text), second(text), first(text)]

    assert merged(make_plan(both.workflow, [{"text": "a"}])) == [1, 1, 0]


def test_different_workflows_share_their_calls() -> None:
    @workflow
    def single(topic: str) -> str:
        return draft(topic)

    @workflow
    def double(topic: str) -> str:
        return about(draft(topic))

    rows = [{"topic": "a"}, {"topic": "b"}]
    plan = plan_together([(single.workflow, rows), (double.workflow, rows[:1])])
    assert merged(plan) == [2, 0, 1]
    assert plan.calls()[0] == 4 and plan.merged_calls() == 3
    assert plan.workflow == "single + double"
    assert [s.number for s in plan.steps] == ["1:1", "1:2", "2:1", "2:2", "2:3"]


def test_agents_and_live_programs() -> None:
    @tool(effect="pure")
    def fine(text: str) -> str:
        return text

    @tool
    def acts(text: str) -> str:
        return text

    @plait.agent(tools=[fine])
    def careful(topic: str) -> str:
        return f"solve {topic}"

    @plait.agent(tools=[fine, acts])
    def active(topic: str) -> str:
        return f"solve {topic}"

    @workflow
    def agents(topic: str) -> list[str]:
        return [careful(topic), active(topic)]

    @workflow
    async def live(topic: str) -> str:
        return await draft.acall(topic)

    rows = [{"topic": "a"}] * 2
    assert [s.merged for s in make_plan(agents.workflow, rows).steps if s.model] == [1, None]
    plan = make_plan(live.workflow, rows)
    assert plan.live and plan.calls() == (0, True)


@llm(model="one", max_tokens=8)
def first(topic: str) -> str:
    return f"About {topic}"


@llm(model="two", max_tokens=8)
def second(topic: str) -> str:
    return f"About {topic}"


@llm(model="two", temperature=1.0)
def drawn(topic: str) -> str:
    return f"About {topic}"


@workflow
def asked_twice(topic: str) -> list[Any]:
    return [first(topic), second(topic), drawn(topic)]


def test_aliases_of_one_model_are_one_model() -> None:
    rows = [{"topic": "a"}, {"topic": "b"}]
    apart = make_plan(asked_twice.workflow, rows)
    alike = make_plan(asked_twice.workflow, rows, names={"one": "one", "two": "one"})
    assert [step.merged for step in apart.steps if step.model] == [2, 2, None]
    assert [step.merged for step in alike.steps if step.model] == [2, 0, None]
    assert apart.prefixes is not None and alike.prefixes is not None
    assert [len(p.roots) for p in (apart.prefixes, alike.prefixes)] == [2, 1]
    assert alike.prefixes.computed < apart.prefixes.computed


@llm(max_tokens=8)
def ask(text: str, other: str) -> str:
    return f"Think about {text} and {other}."


@workflow
def ten(topic: str, document: str) -> str:
    a = ask(topic, document)
    b, c, d = (ask(a, f) for f in (document, topic, a))
    e, f = ask(b, c), ask(c, d)
    g = ask(e, f)
    return ask(ask(g, document), ask(g, topic))


def seconds_to_plan(rows: list[dict[str, Any]]) -> float:
    start = time.perf_counter()
    assert make_plan(ten.workflow, rows).calls()[0] == 10 * len(rows)
    return time.perf_counter() - start


def test_a_plan_grows_no_faster_than_its_rows() -> None:
    few = [{"topic": f"t{i}", "document": f"d{i % 50}"} for i in range(1_000)]
    many = [{"topic": f"t{i}", "document": f"d{i % 50}"} for i in range(8_000)]
    assert seconds_to_plan(many) < 30 * max(seconds_to_plan(few), 0.01)
    tracemalloc.start()
    try:
        plan = make_plan(ten.workflow, many)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tasks = 10 * len(many)
    assert plan.prefixes is not None and len(list(plan.prefixes.vertices())) < 12
    assert held / tasks < 64 and peak / tasks < 2048
