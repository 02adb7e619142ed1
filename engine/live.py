"""Live programs: `async def` workflows run as plain Python; what they await runs as tasks here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..dag.errors import LimitError, PlaitError, ToolError, first_line
from ..dag.live import PROGRAM
from ..dag.nodes import Workflow
from ..dag.source import of_error
from .row import RowState
from .values import read_inputs, validate

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
    """Run the function itself; whatever it raises fails the row as ToolError with its line.

    SystemExit and a CancelledError of its own making too: left alone, they would end the event
    loop or the row without a result, and whoever waits for the run would wait for ever.
    """
    assert workflow.body is not None
    token = PROGRAM.set(LiveProgram(executor, row, path))
    try:
        output = await workflow.body(**inputs)
    except (PlaitError, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _cancelled_by_others():
            raise
        raise _failure(workflow, error) from error
    finally:
        PROGRAM.reset(token)
    return validate(workflow.type, output, f"what {workflow.name!r} returned")


def _cancelled_by_others() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failure(workflow: Workflow, error: BaseException) -> PlaitError:
    """An exception as an error of the row; of several raised at once, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, PlaitError):
        return error
    kind, text, place = type(error).__name__, first_line(error), of_error(error)
    told = kind if text == kind else f"{kind}: {text}"
    return ToolError(f"{workflow.name!r} raised {told}" + (f" ({place})" if place else ""))
