"""Tool calls of a run: merged with equal ones, run, and counted under their node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..dag.arg import resolve
from ..dag.nodes import ToolCall
from ..tools.runner import run_tool
from .program import Program
from .row import RowState
from .run import unnumbered

if TYPE_CHECKING:
    from .executor import Executor


async def run_tool_call(executor: Executor, program: Program, node: ToolCall) -> Any:
    """The value of a tool node."""
    hoisting = executor.hoisting
    begun = hoisting.take(program.row, node) if hoisting and node.ahead else None
    if begun is not None:
        try:
            with executor.waits.at_work(program.row, program.path + node.id):
                return await begun
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if not begun.cancelled() or (own is not None and own.cancelling()):
                raise  # the row is cancelled; else it was given up, see `Hoisting`
    arguments = {name: resolve(arg, program.values) for name, arg in node.bound}
    return await call_tool(executor, program, node.id, node.tool.run, arguments)


async def call_tool(
    executor: Executor, program: Program, id: str, tool: Any, arguments: Mapping[str, Any]
) -> Any:
    """The result of one call, counted under `id`."""
    path = program.path + id
    with executor.waits.at_work(program.row, path):
        return await counted(executor, program.row, path, tool, arguments)


async def counted(
    executor: Executor, row: RowState, path: str, tool: Any, arguments: Mapping[str, Any]
) -> Any:
    """The same, whether or not the row waits for it."""
    start, ok, own = time.perf_counter(), False, True
    try:
        value, own = await _merged(executor, tool, arguments, path)
        ok = True
        if own:
            executor.stats.result(unnumbered(path), value, arguments)
        return value
    finally:
        name = unnumbered(path)
        executor.stats.task(name, "ToolCall", row, start, ok, [], merged=not own)
        executor.lengths.counted(name, executor.wiring)


async def _merged(
    executor: Executor, tool: Any, arguments: Mapping[str, Any], path: str
) -> tuple[Any, bool]:
    """The tool's result, and whether it was run rather than merged with an equal call."""
    sharing = executor.sharing
    key = sharing.tool_key(tool, arguments) if sharing is not None else None
    if sharing is None or key is None:
        return await run_tool(tool, arguments, node=path), True
    return await sharing.flights.copy(
        key[0], path, lambda: run_tool(tool, arguments, node=path), keep=key[1]
    )
