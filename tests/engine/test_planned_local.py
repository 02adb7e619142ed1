"""Random workflows on a tiny random model: the plan changes no token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from plait import Engine, llm, workflow
from plait.testing import assert_same_rows

from .llm import models
from .test_planned_runs import build, row_or_failure, rows_of, steps


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


PAGE = 2 * 2 * 2 * 8 * 4 * 16
"""Bytes of a KV page of the tiny model: keys and values, layers, heads, head size, fp32, tokens."""


@pytest.fixture(scope="module", params=[96, 4096], ids=["little KV", "ample KV"])
def engine(model: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(model=model, kv_memory=request.param * PAGE) as engine:
        yield engine


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=1, max_size=6), rows_of)
def test_rows_equal_those_without_a_plan(
    engine: Engine, shape: list[tuple[int, int, int]], rows: list[dict[str, Any]]
) -> None:
    target = build(shape)
    plain, planned = engine.run(target, rows, plan=False), engine.run(target, rows)
    assert [row_or_failure(row) for row in plain] == [row_or_failure(row) for row in planned]


def test_workflows_that_run_together_share(engine: Engine) -> None:
    one, two = build([(0, 0, 0), (6, 4, 1)]), build([(0, 0, 0), (1, 4, 1)])
    rows = [{"topic": t, "other": "o"} for t in ("bees", "ants", "bees")]
    together = engine.run_together([(one, rows), (two, rows[:2])])
    alone = [engine.run(one, rows, plan=False), engine.run(two, rows[:2], plan=False)]
    for both, single in zip(together, alone, strict=True):
        assert_same_rows(both.rows, single.rows)
    merged = sum(run.stats.merged for run in together)
    assert merged == 10 - (2 + 2 + 2)  # drafts of two topics, then two calls a workflow


class Odd(BaseModel):
    """Its own code fails when it is shown."""

    name: str = "odd"

    def __format__(self, spec: str) -> str:
        raise KeyError("nothing to show")

    __str__ = __repr__ = lambda self: self.__format__("")


@llm(max_tokens=4)
def about(thing: Any, how: str) -> str:
    return f"About {thing}, {how}"


@workflow
def twice(thing: Any) -> list[str]:
    return [about(thing, "well"), about(thing, "again")]


@pytest.mark.parametrize("plan", [True, False])
def test_values_that_cannot_be_shown_fail_their_own_rows(engine: Engine, plan: bool) -> None:
    rows = [{"thing": thing} for thing in (10**5_000, Odd(), {"in": [Odd()]}, "bees")]
    run = engine.run(twice, rows, plan=plan)
    assert [row.status for row in run.rows] == ["error", "error", "error", "ok"]
    assert engine.explain(twice, rows).rows == 4
