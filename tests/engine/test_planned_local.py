"""Random workflows on a tiny random model: the plan changes no token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import Engine
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
