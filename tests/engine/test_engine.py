"""The engine's own methods: async twins, planning beside the caller, settings, closing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import plait
from plait import Engine
from plait.dag.logical import Plan
from plait.engine.planning import INLINE_CHARACTERS, INLINE_ROWS, plan_for
from plait.engine.row import Item, RowIn

from .operators import draft, extract


async def test_async_twins_work_on_the_callers_loop() -> None:
    async with Engine(backend="fake") as engine:
        run = await engine.arun(draft, [{"topic": "x"}])
        assert run.outputs == ["about x"]
        assert await engine.acall(draft, topic="y") == "about y"
        assert [r.output async for r in engine.astream(draft, [{"topic": "z"}])] == ["about z"]
        assert [g.text for g in await engine.agenerate(["a", "b"])] == ["a", "b"]
        assert "draft" in str(await engine.aexplain(draft, [{"topic": "x"}]))


LONG = "a" * INLINE_CHARACTERS


@pytest.mark.parametrize(
    ("rows", "inline"),
    [
        ([{"topic": "x"}] * 3, True),
        ([{"topic": "x"}] * (INLINE_ROWS + 1), False),
        ([{"topic": LONG}], False),
        ([{"topic": LONG[:9_000]}] * 300, False),
        ([{"topic": "x", "pages": [{"text": LONG}]}], False),
        ([{"topic": "x", "numbers": list(range(30_000))}], False),
        ([Item("a", 0, {"topic": LONG})], False),
        ([Item("a", 0, {"topic": "x"}), plait.InputError("no row"), {"topic": None}], True),
    ],
)
async def test_planning_leaves_the_callers_loop_free(
    monkeypatch: pytest.MonkeyPatch, rows: list[RowIn], inline: bool
) -> None:
    """However few the rows are: texts may be long."""
    threads: list[threading.Thread] = []

    def planning(*given: Any) -> Plan:
        threads.append(threading.current_thread())
        return plan_for(*given)

    monkeypatch.setattr("plait.engine.planning.plan_for", planning)
    async with Engine(backend="fake") as engine:
        await engine.aexplain(draft, rows)
        await engine.arun_together([(draft, rows), (extract, [{"text": "y"}])])
        await engine.arun(draft, rows)
        await engine.arun(draft, rows, plan=False)
    here = [thread is threading.current_thread() for thread in threads]
    assert here == [inline] * 4


async def test_the_sync_interface_works_while_a_loop_runs(engine: Engine) -> None:
    """As in a notebook."""
    assert engine.call(draft, topic="x") == "about x"


def test_generate(engine: Engine) -> None:
    assert [g.text for g in engine.generate(["a", "b"])] == ["a", "b"]
    assert engine.generate("one")[0].text == "one"
    with pytest.raises(plait.ConfigError, match="top_p"):
        engine.generate("x", top_p=3.0)
    with pytest.raises(plait.ConfigError, match="temprature"):
        engine.generate("x", temprature=3.0)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(plait.ConfigError, match="max_rows=0"):
        Engine(backend="fake", max_rows=0)
    with pytest.raises(plait.ConfigError, match="'vllm'"):
        Engine(backend="vllm")
    with pytest.raises(plait.ModelError, match="no model at '/no/such'"):
        Engine(model="/no/such")
    with (
        Engine(backend="fake") as engine,
        pytest.raises(plait.WorkflowError, match="not a workflow"),
    ):
        engine.run(len, [])


def test_a_closed_engine_says_so() -> None:
    engine = Engine(backend="fake")
    engine.close()
    engine.close()
    with pytest.raises(plait.EngineError, match="closed"):
        engine.call(draft, topic="x")
