"""Live programs that go wrong: each harms its own row alone, and the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from plait import Engine, llm, tool, workflow
from plait.engine.row import Failure
from plait.engine.run import Run

ROWS = [{"topic": "bad"}, {"topic": "good"}]


@tool(effect="pure")
async def picky(topic: str) -> str:
    if topic == "bad":
        raise ValueError("not this one")
    return topic


@workflow
async def ends_the_process(topic: str) -> str:
    if topic == "bad":
        raise SystemExit(3)
    return topic


@workflow
async def cancels_itself(topic: str) -> str:
    if topic == "bad":
        raise asyncio.CancelledError
    return topic


@workflow
async def breaks_its_promise(topic: str) -> int:
    return topic if topic == "bad" else 7  # type: ignore[return-value]


@workflow
async def groups(topic: str) -> str:
    async with asyncio.TaskGroup() as group:
        found = group.create_task(picky.acall(topic))
    return found.result()


@workflow
async def looks_up(topic: str) -> Any:
    known = {"good": 1}
    return known[topic]


@llm(dynamic=True)
def gives_up(topic: str) -> str:
    if topic == "bad":
        raise SystemExit("no prompt")
    return topic


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(backend="fake") as engine:
        yield engine


async def _failure(engine: Engine, program: Any) -> Failure:
    """How the first row failed; the second must be fine."""
    run: Run = await asyncio.wait_for(engine.arun(program, ROWS), 60)
    assert [row.status for row in run.rows] == ["error", "ok"]
    assert run.rows[0].error is not None
    return run.rows[0].error


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        (ends_the_process, "ToolError", "'ends_the_process' raised SystemExit: 3 ("),
        (cancels_itself, "ToolError", "'cancels_itself' raised CancelledError ("),
        (breaks_its_promise, "OutputError", "what 'breaks_its_promise' returned is not int: "),
        (groups, "ToolError", "tool 'picky' raised ValueError: not this one"),
        (gives_up, "PromptError", "the prompt body of 'gives_up' raised SystemExit: no prompt"),
    ],
)
async def test_what_a_program_raises_or_returns_wrongly_fails_its_row_alone(
    engine: Engine, program: Any, kind: str, message: str
) -> None:
    failure = await _failure(engine, program)
    assert failure.type == kind
    assert failure.message.startswith(message)


async def test_an_exception_is_told_with_file_and_line(engine: Engine) -> None:
    failure = await _failure(engine, looks_up)
    line = looks_up.fn.__code__.co_firstlineno + 3
    assert failure.message == f"'looks_up' raised KeyError: 'bad' ({__file__}:{line})"
