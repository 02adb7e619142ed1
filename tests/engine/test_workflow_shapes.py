"""The shapes of the workflow benchmark: same rows with the plan, and fewer calls."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from plait import Engine
from plait.benchmarks.operator_wise import run_operator_wise
from plait.benchmarks.workflow_shapes import SHAPES, Shape
from plait.engine.backends.backend import Call
from plait.testing import FakeBackend, assert_same_rows, prompt_text


def answer(call: Call) -> str:
    return f"said {zlib.crc32(prompt_text(call).encode())}"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_every_shape_gives_the_same_rows_with_fewer_calls(shape: Shape) -> None:
    rows = shape.rows(10)
    backend = FakeBackend(answer)
    with Engine(backend=backend) as engine:
        plain = engine.run(shape.workflow, rows, plan=False)
        asked = backend.calls
        planned = engine.run(shape.workflow, rows)
        executed = backend.calls - asked
    assert all(row.ok for row in plain)
    assert_same_rows(plain.rows, planned.rows)
    assert executed < asked == planned.plan.calls()[0]
    assert executed == planned.plan.merged_calls()
    wise = asyncio.run(run_operator_wise(shape.workflow.workflow, FakeBackend(answer), rows))
    assert_same_rows(plain.rows, wise)


def test_the_desk_has_88_calls() -> None:
    desk = next(s for s in SHAPES if s.name == "desk")
    with Engine(backend="fake") as engine:
        plan = engine.explain(desk.workflow, desk.rows(1), disable=["merge_calls"])
    assert plan.calls() == (88, False)
