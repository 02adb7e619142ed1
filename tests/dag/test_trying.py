"""Orders of small batches, tried in virtual time: never worse than before, and never for long."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait import llm, tool, workflow
from plait.benchmarks.time_gap import MACHINE, Instance, asked, instance
from plait.dag import trying
from plait.dag.estimates import Estimates, operator_key
from plait.dag.imagined import Imagination
from plait.dag.logical import Plan, positions
from plait.dag.names import named_nodes
from plait.dag.plan import make_plan
from plait.dag.rehearsal import Stage
from plait.dag.rehearsals import ordered, unlike
from plait.dag.trying import may_try, tried
from plait.dag.workflow import as_workflow
from plait.engine.rehearsed_model import RehearsedModel

NODES = dict(named_nodes(asked.workflow))


def batch(rng: random.Random, rows: int) -> Instance:
    """Rows of a few values, memory for little more than one of them, and a tool."""
    values = [
        {name: f"{name[0]}{rng.randrange(3)} " * size for name, size in sizes.items()}
        for sizes in [{"document": 60, "person": 30, "question": 10}] * rows
    ]
    lengths = {"read": rng.randint(1, 6), "reply": rng.randint(1, 6), "look_up": rng.random() / 10}
    known = {operator_key(NODES[name]): float(value) for name, value in lengths.items()}
    return Instance(values, rng.randint(14, 40), Estimates(given=known))


def order_of(plan: Plan) -> tuple[int, ...]:
    return tuple(positions(plan.parts[0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_the_order_taken_is_never_slower_than_the_one_before_or_that_of_the_rows(
    seed: int, rows: int
) -> None:
    one = batch(random.Random(seed), rows)
    before, texts = one.by_tokens(), Imagination()
    plan = tried(before, one.rows, one.estimates, one.stage, texts)
    told = plan.trials
    assert told is not None and sorted(order_of(plan)) == list(range(rows))
    taken, own, as_given = (
        one.seconds(before, order, texts)
        for order in (order_of(plan), order_of(before), tuple(range(rows)))
    )
    assert (told.seconds, told.by_tokens) == pytest.approx((taken, own))
    assert told.seconds <= told.by_tokens <= told.slowest
    if told.as_given is not None:
        assert told.as_given == pytest.approx(as_given)
        assert taken * (1 - trying.GAIN) <= as_given + 1e-9
    assert order_of(plan) == order_of(before) or taken <= own * (1 - trying.GAIN) + 1e-9
    assert replace(plan, parts=before.parts, trials=None) == before, "nothing else changes"


@pytest.mark.parametrize("seed", [62, 171, 248, 326])
def test_of_four_rows_every_order_is_tried(seed: int) -> None:
    one = instance(seed)
    before, texts = one.by_tokens(), Imagination()
    seconds = [one.seconds(before, order, texts) for order in permutations(range(4))]
    told = one.plan().trials
    assert told is not None and told.every and told.orders <= 24
    assert told.seconds == pytest.approx(min(seconds)) and told.seconds < told.by_tokens
    assert told.slowest == pytest.approx(max(seconds))
    assert "all that differ" in str(told)


class Counting:
    """Stages that count the work on them."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.stages: list[RehearsedModel] = []
        self.calls = self.prompts = self.generated = 0

    @property
    def seconds(self) -> float:
        """That all of it takes, as trials reckon."""
        calls, prompts = self.calls * trying.CALL, self.prompts * trying.PROMPT
        return calls + prompts + self.generated * trying.GENERATED

    def __call__(self, _: Plan) -> Stage:
        model = RehearsedModel(MACHINE, self.pages)
        add = model.add

        def counted(number: int, ask: Any, now: float) -> None:
            self.calls += len(ask.answers)
            self.prompts += len(ask.prompt) * len(ask.answers)
            self.generated += sum(map(len, ask.answers))
            add(number, ask, now)

        model.add = counted  # type: ignore[method-assign]
        self.stages.append(model)
        return Stage({"default": model})


@pytest.mark.parametrize("rows", [2, 3, 5, 8, 16, 32, 48, 64, 200, 1_000])
def test_the_work_of_rehearsals_is_bounded(rows: int) -> None:
    one = batch(random.Random(rows), rows)
    stage = Counting(one.pages)
    plan = tried(one.by_tokens(), one.rows, one.estimates, stage, Imagination())
    told = plan.trials
    assert len(stage.stages) == (told.orders if told is not None else 0) <= trying.ORDERS
    assert stage.seconds <= trying.BUDGET


@given(st.integers(1, 400), st.integers(1, 4_000), st.integers(3, 10))
@settings(max_examples=10, deadline=None)
def test_long_prompts_and_answers_leave_time_for_fewer_orders(
    words: int, answer: int, rows: int
) -> None:
    texts = [{"text": f"text {i} " * words} for i in range(rows)]
    key = operator_key(dict(named_nodes(GRAPH))["long"])
    known = Estimates(given={key: float(answer)})
    plan = make_plan(GRAPH, texts, memory=900.0)
    stage = Counting(4_000)
    tried(plan, texts, known, stage, Imagination())
    assert stage.seconds <= trying.BUDGET


@given(st.integers(0, 10_000), st.floats(0.0, 0.2))
@settings(max_examples=25, deadline=None)
def test_no_more_orders_are_tried_than_a_batch_is_worth(seed: int, share: float) -> None:
    one = batch(random.Random(seed), 6)
    before, stage = one.by_tokens(), Counting(one.pages)
    seconds = one.seconds(before, order_of(before), Imagination())
    plan = tried(
        before, one.rows, one.estimates, stage, Imagination(), seconds=seconds, share=share
    )
    assert stage.seconds <= share * seconds * 1.01
    each = stage.seconds / max(1, len(stage.stages))
    assert (plan is before) == (plan.trials is None) == (not stage.stages)
    assert plan is not before or share * seconds < 2 * max(each, 6 * 3 * trying.CALL)


ALIKE = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@given(ALIKE)
def test_orders_that_only_exchange_rows_that_are_alike_are_one(alike: list[int]) -> None:
    def shown(order: Sequence[int]) -> tuple[int, ...]:
        return tuple(alike[place] for place in order)

    found = [shown(order) for order in unlike(alike)]
    assert len(found) == len(set(found))
    assert set(found) == set(map(shown, permutations(range(len(alike)))))


def test_of_many_orders_the_first_are_found_at_once() -> None:
    assert len(list(islice(unlike(range(150)), 25))) == 25
    assert list(unlike([0] * 150)) == [tuple(range(150))]


def test_rows_that_are_alike_are_exchanged_for_nothing() -> None:
    one = batch(random.Random(3), 1)
    rows = one.rows * 6
    same = replace(one, rows=rows).plan().trials
    assert same is not None and (same.orders, same.every) == (1, True)


def test_an_order_that_loses_nothing_is_the_only_one_rehearsed() -> None:
    """Memory for all, and no tool takes time."""
    one = batch(random.Random(4), 5)
    known = Estimates(given={**one.estimates.given, operator_key(NODES["look_up"]): 0.0})
    told = replace(one, pages=4_000, estimates=known).plan().trials
    assert told is not None and told.orders == 1 and told.seconds == told.by_tokens
    assert "no other was worth trying" in str(told)


@llm(max_tokens=4_096)
def long(text: str) -> str:
    return f"Sum up: {text}"


@workflow
def read_long(text: str) -> str:
    return long(text)


GRAPH = as_workflow(read_long)


@llm(max_tokens=4)
def short(text: str) -> str:
    return f"Say in short: {text}"


@tool(effect="pure")
def names(text: str) -> list[str]:
    return text.split()


@workflow
def read_names(text: str) -> list[str]:
    return plait.map(short, names(text))


@workflow
async def alive(text: str) -> str:
    return await short.acall(text)


class Text(str):
    """Nobody knows what it shows."""


TEXTS = [{"text": f"{i % 2} " * 40} for i in range(4)]


def lengths(target: Any, length: float = 2.0) -> Estimates:
    nodes = (node for _, node in named_nodes(as_workflow(target)))
    return Estimates(given={operator_key(node): length for node in nodes})


def left_alone(
    target: Any, rows: Sequence[dict[str, Any]], known: Estimates | None = None, **options: Any
) -> bool:
    plan = make_plan(as_workflow(target), rows, **options)
    stage = Counting(100)
    known = known or lengths(target)
    return tried(plan, rows, known, stage, Imagination()) is plan and not stage.stages


def test_plans_whose_work_is_not_known_before_or_whose_order_stays_are_left_alone() -> None:
    assert may_try(make_plan(as_workflow(short), TEXTS), TEXTS, lengths(short))
    assert left_alone(short, TEXTS, Estimates()), "nobody knows how long answers are"
    many = [{"text": f"{i}"} for i in range(8)]
    assert left_alone(long, many, lengths(long, 4_000.0)), "there is no time for it"
    assert left_alone(read_names, TEXTS), "values decide how many calls there are"
    assert left_alone(alive, TEXTS)
    assert left_alone(short, TEXTS[:1]), "one row has no order"
    assert left_alone(short, TEXTS, disable=["order_rows"])
    assert left_alone(short, [{"text": Text(i)} for i in range(4)])


def test_the_plan_says_how_its_order_was_found() -> None:
    plan = instance(62).plan()
    told = plan.trials
    assert told is not None
    assert f"order of rows: quickest, {told.seconds:.4g} s expected" in str(plan)
    assert f"{told.orders} rehearsed" in str(plan)
    assert plan.as_dict()["order"]["by_tokens"] == told.by_tokens > told.seconds
    assert "order of rows" not in str(instance(62).by_tokens())
    assert ordered(plan, range(plan.rows)).parts[0].order is None
