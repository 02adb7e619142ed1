"""Live programs: `async def` workflows run as plain Python; what they await runs as tasks here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..dag.errors import LimitError, PlaitError, ToolError, first_line
from ..dag.live import PROGRAM
from ..dag.nodes import Workflow
from .run import RowState
from .values import read_inputs

if TYPE_CHECKING:
    from .executor import Executor

MAX_CALLS = 100_000


class LiveProgram:
    """A running live program: numbers its calls so that each has a stable path and seed."""

    def __init__(self, executor: Executor, row: RowState, path: str) -> None:
        self._executor, self._row, self._path = executor, row, path
        self._counts: dict[str, int] = {}
        self._calls = 0

    async def call(self, target: Any, arguments: Mapping[str, Any]) -> Any:
        """Run an operator or workflow as a task of this program."""
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise LimitError(f"a live program made over {MAX_CALLS} calls")
        wiring = self._executor.wiring_of(target)
        name = wiring.workflow.name
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        inputs = read_inputs(wiring.workflow.inputs, arguments)
        path = f"{self._path}{name}[{number}]/"
        return await self._executor.run_body(wiring, inputs, self._row, path)


async def run_live(
    executor: Executor, workflow: Workflow, inputs: dict[str, Any], row: RowState, path: str
) -> Any:
    """Run the function itself; an exception in it fails the row as ToolError with its line."""
    assert workflow.body is not None
    token = PROGRAM.set(LiveProgram(executor, row, path))
    try:
        return await workflow.body(**inputs)
    except (PlaitError, asyncio.CancelledError):
        raise
    except Exception as error:
        raise ToolError(_raised(workflow, error)) from error
    finally:
        PROGRAM.reset(token)


def _raised(workflow: Workflow, error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" (line {trace.tb_lineno})" if trace else ""
    return f"{workflow.name!r} raised {type(error).__name__}: {first_line(error)}{where}"
