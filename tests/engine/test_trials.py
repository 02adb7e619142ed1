"""Orders that are tried before a batch runs on a real model: the answers stay the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from plait import Engine, llm, tool, workflow
from plait.dag import trying
from plait.dag.estimates import Estimates, operator_key
from plait.dag.names import named_nodes
from plait.engine.backends.local import LocalBackend
from plait.engine.history import History
from plait.engine.llm.costs import Costs
from plait.engine.predicted import expectation
from plait.engine.priced import price_on
from plait.engine.settings import Settings
from plait.testing import assert_same_rows

from .llm import models

PAGE = 2 * 2 * 2 * 8 * 4 * 16
"""Bytes of a KV page of the tiny model: keys and values, layers, heads, head size, fp32, tokens."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    """With memory for little more than one row."""
    with Engine(model=model, kv_memory=24 * PAGE) as engine:
        yield engine


@llm(max_tokens=6)
def read(document: str, person: str) -> str:
    return f"{document} {person}"


@tool(effect="pure")
def look_up(words: str) -> str:
    time.sleep(0.01)
    return words[:4]


@llm(max_tokens=6)
def reply(person: str, question: str, found: str) -> str:
    return f"{person}: {question} {found}"


@workflow
def asked(document: str, person: str, question: str) -> str:
    return reply(person, question, look_up(read(document, person)))


ROWS = [
    {"document": f"d{a} " * 40, "person": f"p{b} " * 20, "question": f"q{c} "}
    for a, b, c in [(2, 0, 1), (2, 0, 0), (2, 1, 1), (0, 1, 0), (0, 1, 2)]
]


def knowing(engine: Engine, seconds: float = 30.0) -> Engine:
    """The engine as one of its own, which knows how long answers and tools are from the start."""
    nodes = dict(named_nodes(asked.workflow))
    lengths = {"read": 6.0, "reply": 6.0, "look_up": seconds}
    known = Estimates(given={operator_key(nodes[name]): long for name, long in lengths.items()})
    found = engine.salted("")
    found._options, found._history = replace(found._options, known=known), History({})
    return found


def test_rows_are_those_without_a_plan_and_without_trials(engine: Engine) -> None:
    run = knowing(engine).run(asked, ROWS)
    told = run.plan.trials
    assert told is not None and 1 < told.orders <= trying.ORDERS
    assert told.seconds <= told.by_tokens
    assert_same_rows(run.rows, engine.run(asked, ROWS, plan=False).rows)
    untried = knowing(engine).run(asked, ROWS, disable=["try_orders"])
    assert untried.plan.trials is None
    assert_same_rows(run.rows, untried.rows)


def test_explain_says_what_a_run_does(engine: Engine) -> None:
    engine = knowing(engine)
    plan = engine.explain(asked, ROWS)
    assert plan.trials is not None and "order of rows: " in str(plan)
    assert plan.parts[0].order == engine.run(asked, ROWS).plan.parts[0].order
    assert engine.explain(asked, ROWS, disable=["try_orders"]).trials is None
    assert engine.explain(asked, ROWS, disable=["order_rows"]).trials is None


def test_the_price_is_that_of_the_order_taken(engine: Engine) -> None:
    knows = knowing(engine)
    run = knows.run(asked, ROWS)
    assert isinstance(engine.backend, LocalBackend)
    found = price_on(engine.backend, asked.workflow, ROWS, knows._options.known)
    assert found.plan.trials is not None and run.plan.trials is not None and found.cost is not None
    assert found.cost.seconds == pytest.approx(found.plan.trials.seconds)
    plain = price_on(engine.backend, asked.workflow, ROWS, knows._options.known, planned=False)
    assert plain.plan.trials is None


def test_a_run_tries_with_what_is_known(engine: Engine) -> None:
    knows = knowing(engine)
    told = knows.explain(asked, ROWS).trials
    assert told is not None and told.seconds > 30.0
    knows._options = replace(knows._options, known=Estimates())
    assert knows.explain(asked, ROWS).trials is None, "nothing is known"


def test_a_run_is_tried_for_a_hundredth_of_its_time_at_most(engine: Engine) -> None:
    orders = []
    for seconds in (0.05, 2.0, 30.0):
        plan = knowing(engine, seconds).explain(asked, ROWS)
        orders.append(plan.trials.orders if plan.trials is not None else 0)
    none, few, many = orders
    assert none == 0 < few < many <= trying.ORDERS


def test_what_is_expected_of_a_run_has_its_order_and_tries_no_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows = knowing(engine)
    run, known = knows.run(asked, ROWS), knows._options.known
    settings = Settings("w.py:asked", "rows.jsonl")

    def again(*_: object) -> NoReturn:
        raise AssertionError("tried once more")

    monkeypatch.setattr("plait.engine.priced.tried_on", again)
    found = expectation(engine.backend, asked.workflow, ROWS, known, settings, run.plan)
    assert found is not None and found.cost is not None
    assert found.cost.seconds == pytest.approx(run.plan.trials.seconds)
    with pytest.raises(AssertionError, match="once more"):  # of a run that was resumed
        expectation(engine.backend, asked.workflow, [*ROWS, *ROWS], known, settings, run.plan)


def test_rows_that_cannot_be_read_and_prompts_too_long_fail_alone(engine: Engine) -> None:
    wrong: list[Any] = [*ROWS, {"document": 5}, {**ROWS[0], "document": "far too long " * 900}]
    run = knowing(engine).run(asked, wrong)
    assert [row.ok for row in run] == [True] * 5 + [False] * 2
    assert_same_rows(run.rows[:5], engine.run(asked, ROWS, plan=False).rows)


def test_what_cannot_be_tried_fails_no_run(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise ValueError("no such order")

    monkeypatch.setattr("plait.engine.trials.tried", broken)
    with caplog.at_level(logging.WARNING, "plait"):
        assert all(row.ok for row in knowing(engine).run(asked, ROWS))
    assert "not tried in virtual time: no such order" in caplog.text


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever machine this runs on: loads are so cheap that the formula finds replicas, and runs
    so long that there is time to try."""

    def cheap(aliases: Sequence[str], _: object) -> dict[str, Costs]:
        return dict.fromkeys(aliases, Costs(step=0.01, load=0.001))

    monkeypatch.setattr("plait.engine.backends.placing.costs_of", cheap)
    monkeypatch.setattr("plait.engine.trials.SHARE", 100.0)


@pytest.mark.usefixtures("replicas")
def test_on_several_workers_placements_are_tried_as_well(model: Path, engine: Engine) -> None:
    with Engine(model=model, kv_memory=24 * PAGE, devices=["cpu", "cpu"]) as several:
        knows = knowing(several)
        assert knows.explain(asked, ROWS).trials is None, "no model is loaded, no cost is known"
        run = knows.run(asked, ROWS)
        told, placement = run.plan.trials, run.plan.placement
        assert told is not None and 1 < told.placements < told.orders <= trying.ORDERS
        assert placement is not None and placement.rehearsed == told.placements
        assert f"the quickest of {told.placements} rehearsed" in str(run.plan)
        assert knows.run(asked, ROWS, disable=["try_orders"]).plan.trials is None
    assert_same_rows(run.rows, engine.run(asked, ROWS, plan=False).rows)


@pytest.mark.usefixtures("replicas")
def test_the_price_of_several_workers_is_that_of_what_was_tried(engine: Engine) -> None:
    assert isinstance(engine.backend, LocalBackend)
    known, devices = knowing(engine)._options.known, ("cpu", "cpu:0")
    found = price_on(engine.backend, asked.workflow, ROWS, known, devices=devices)
    told = found.plan.trials
    assert told is not None and told.placements > 1 and found.cost is not None
    assert found.cost.seconds == pytest.approx(told.seconds)
    again = price_on(
        engine.backend, asked.workflow, ROWS, known, devices=devices, followed=found.plan
    )
    assert again.plan.placement == found.plan.placement and again.plan.trials == told


def test_one_worker_of_several_tries_orders(model: Path) -> None:
    with Engine(model=model, kv_memory=24 * PAGE, devices=["cpu"]) as engine:
        told = knowing(engine).run(asked, ROWS).plan.trials
        assert told is not None and told.placements == 1
