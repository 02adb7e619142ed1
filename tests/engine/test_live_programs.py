"""Live programs: what they await runs in the same engine, and is counted."""

from __future__ import annotations

import asyncio

import pytest

import plait
from plait import Engine, workflow

from .operators import draft, extend, upper


def test_live_program_awaits_operators_and_records_them(engine: Engine) -> None:
    @workflow
    def inner(topic: str) -> str:
        return extend(draft(topic))

    @workflow
    async def live(topic: str, times: int = 2) -> list[str]:
        texts = []
        for _ in range(times):
            texts.append(await draft.acall(topic))
        if len(texts) > 1:
            texts.append(await inner.acall(topic))
        return await plait.gather(*(upper.acall(t) for t in texts))

    run = engine.run(live, [{"topic": "x"}, {"topic": "y", "times": 1}])
    assert run.outputs == [["ABOUT X", "ABOUT X", "ABOUT X."], ["ABOUT Y"]]
    assert run.stats.nodes["draft"].calls == 3
    assert run.stats.nodes["inner/extend"].calls == 1 and run.stats.nodes["upper"].calls == 4


def test_live_program_that_raises_fails_its_row(engine: Engine) -> None:
    @workflow
    async def live(topic: str) -> str:
        if topic == "bad":
            raise KeyError("oops")
        return await draft.acall(topic)

    run = engine.run(live, [{"topic": "bad"}, {"topic": "good"}])
    failure = run.rows[0].error
    assert failure is not None and failure.type == "ToolError" and "KeyError" in failure.message
    assert run.rows[1].output == "about good"


def test_operators_outside_a_live_program_say_what_to_do() -> None:
    with pytest.raises(plait.WorkflowError, match=r"engine\.call\(draft"):
        asyncio.run(draft.acall("x"))
