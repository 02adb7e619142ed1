"""Tool calls made before their rows' turn, so that tools work while models write.

The plan says which (`hoist_tools`): calls without side effects whose arguments are columns, or what
such calls return, which they then wait for. Those that every row makes are made for rows that have
not begun; those behind a branch when their row begins, and only if the tool is known to be quick,
for they may be in vain. What comes of a call is kept, value or error, until its row asks for it. So
many calls are ahead at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..dag.arg import resolve
from ..dag.demand import certain
from ..dag.errors import PlaitError
from ..dag.nodes import Node, Project, ToolCall, Workflow
from ..dag.template import project
from .admission import Entry
from .row import RowState
from .single_flight import fresh
from .tool_calls import counted

if TYPE_CHECKING:
    from .executor import Executor

AHEAD = 32
"""Most calls that nobody has asked for yet; no more than rows may be under way."""
CHEAP = 0.25
"""Seconds a call may take that may be in vain."""


class Hoisting:
    """The calls of one run that are ahead of their rows."""

    def __init__(self, executor: Executor, entries: Iterator[Entry]) -> None:
        self._executor, self._entries = executor, entries
        workflow = executor.wiring.workflow
        always = certain(workflow)
        calls = [n for n in workflow.nodes.values() if isinstance(n, ToolCall) and n.ahead]
        self._before = {node.id: _before(node, workflow) for node in calls}
        """What is worked out first for each of them: parts, and values of other tools."""
        self._sure = [n for n in calls if n.id in always]
        self._maybe = [n for n in calls if n.id not in always]
        self._most = min(AHEAD, executor.options.window)
        self._begun = -1
        """Rank of the last row whose turn has come."""
        self._calls: dict[Hashable, asyncio.Task[Any]] = {}
        self._called = False

    def row_begins(self, row: RowState, inputs: Mapping[str, Any]) -> None:
        """A row's turn has come."""
        self._begun = max(self._begun, row.rank)
        for node in self._maybe:
            seen = self._executor.stats.nodes.get(node.id)
            quick = seen is not None and seen.calls and seen.seconds <= CHEAP * seen.calls
            if quick and len(self._calls) < self._most:
                with suppress(PlaitError):  # the row will say so, if it comes to that
                    self._call(row, node, inputs)
        self._go_on()

    def row_ended(self, row: RowState) -> None:
        """The row asks for nothing any more."""
        for node in (*self._sure, *self._maybe):
            task = self._calls.pop((row.rank, node.id), None)
            if task is not None:
                task.cancel()
        self._go_on()

    def take(self, row: RowState, node: ToolCall) -> asyncio.Task[Any] | None:
        """The call that a row is about to make, if it has been made."""
        task = self._calls.pop(self._key(row, node), None)
        if task is not None:
            self._go_on()
        return task

    async def close(self) -> None:
        """Cancel what nobody has asked for."""
        self._entries = iter(())
        tasks = list(self._calls.values())
        self._calls.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- inside --------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Look for further calls, once all that happens now has happened."""
        if self._sure and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._look_ahead)

    def _look_ahead(self) -> None:
        self._called = False
        while len(self._calls) < self._most:
            entry = next(self._entries, None)
            if entry is None:
                return
            if entry.rank <= self._begun:
                continue
            with suppress(PlaitError):  # the row will say so
                row, inputs = self._executor.row_of(entry)
                for node in self._sure:
                    self._call(row, node, inputs)

    def _call(self, row: RowState, node: ToolCall, inputs: Mapping[str, Any]) -> None:
        key = self._key(row, node)
        if key in self._calls:
            return
        tools = (n for n in self._before[node.id] if isinstance(n, ToolCall))
        needed = {tool.id: self._calls.get(self._key(row, tool)) for tool in tools}
        begun = {id: task for id, task in needed.items() if task is not None}
        if len(begun) < len(needed):
            return  # it would have to wait for what nobody has asked for
        task = asyncio.get_running_loop().create_task(self._make(row, node, inputs, begun))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # maybe in vain
        self._calls[key] = task

    async def _make(
        self, row: RowState, node: ToolCall, inputs: Mapping[str, Any],
        begun: Mapping[str, asyncio.Task[Any]],
    ) -> Any:  # fmt: skip
        """Make a call when what it is given is there. Where that fails it is given up as if it had
        been cancelled: the row will ask for all of it, and say what is wrong."""
        values = {**self._executor.wiring.constants, **inputs}
        if begun:
            await asyncio.wait(begun.values())
        try:
            values |= {id: fresh(task.result()) for id, task in begun.items()}
            for known in self._before[node.id]:
                if isinstance(known, Project):
                    values[known.id] = project(resolve(known.of, values), known.path)
            arguments = {name: resolve(arg, values) for name, arg in node.bound}
        except Exception:
            raise asyncio.CancelledError from None
        return await counted(self._executor, row, node.id, node.tool.run, arguments)

    def _key(self, row: RowState, node: ToolCall) -> Hashable:
        """Calls of one class are one call."""
        sharing = self._executor.sharing
        planned = sharing.planned(row, node) if sharing is not None else None
        return planned if planned is not None else (row.rank, node.id)


def _before(node: Node, workflow: Workflow) -> list[Node]:
    """The parts that a call is given and the tools whose values it needs, in the order of the
    workflow."""
    found: set[str] = set()
    stack = [*node.needs()]
    while stack:
        other = workflow.nodes[stack.pop()]
        if isinstance(other, Project):
            stack += other.needs()
        if isinstance(other, Project | ToolCall):
            found.add(other.id)
    return [other for other in workflow.nodes.values() if other.id in found]
