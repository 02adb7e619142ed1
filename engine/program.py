"""A program: one workflow body running for one row.

It knows which nodes are demanded and how many values each still waits for. When a value arrives,
nodes that wait for nothing any more start at once: there is no step, level or barrier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..dag.arg import resolve
from ..dag.errors import EngineError, PlaitError, RowError, as_fault
from ..dag.nodes import Branch, Project
from ..dag.template import project
from .backends.warm import Kept
from .expanded import Body
from .row import RowState
from .wiring import NOT_DEMANDED, Kind, Wiring

Work = Callable[["Program", int], Coroutine[Any, Any, Any]]


class Program:
    """State of one body for one row. `done` resolves to the output or raises the row's error."""

    __slots__ = ("wiring", "row", "path", "values", "done", "_work", "_waiting", "_left", "_tasks",
                 "_sides", "behind", "body", "_warm", "_splits", "_heads")  # fmt: skip

    def __init__(
        self, wiring: Wiring, inputs: dict[str, Any], row: RowState, path: str, work: Work,
        behind: float = 0.0, warm: Work | None = None, body: Body | None = None,
    ) -> None:  # fmt: skip
        self.wiring, self.row, self.path = wiring, row, path
        self.behind, self.body = behind, body
        self.values = {**wiring.constants, **inputs}
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._work = work
        self._waiting = list(wiring.waiting)
        self._left = set(wiring.goals)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sides: dict[int, list[int]] = {}  # node -> branches whose taken side needs it
        self._warm = warm
        self._splits = dict(wiring.splits) if warm is not None else {}
        self._heads: dict[int, Kept] = {}

    def start(self) -> Program:
        """Start every node that waits for nothing."""
        self._advance(list(self.wiring.ready))
        if self._splits:
            self._begin_heads()
        if not self._left:
            self._finish()
        return self

    def cancel(self) -> None:
        """Stop everything under way; `done` is cancelled."""
        for task in list(self._tasks):
            task.cancel()
        while self._heads:
            self._heads.popitem()[1].release()
        if self.body is not None:
            self.body.close()
        self.done.cancel()

    # -- values arriving -----------------------------------------------------------------------

    def _settle(self, i: int, value: Any, ready: list[int]) -> None:
        """Note a node's value and collect the nodes that now wait for nothing."""
        self.values[self.wiring.nodes[i].id] = value
        self._left.discard(i)
        waiting = self._waiting
        for f in self.wiring.feeds[i]:
            if waiting[f] > 0:
                waiting[f] -= 1
                if waiting[f] == 0:
                    ready.append(f)
        for branch in self._sides.pop(i, ()):
            waiting[branch] -= 1
            if waiting[branch] == 0:
                ready.append(branch)

    def _advance(self, ready: list[int]) -> None:
        """Run what is ready: small things at once, work as tasks."""
        kinds = self.wiring.kinds
        try:
            while ready:
                i = ready.pop()
                if kinds[i] is Kind.WORK:
                    self._spawn(i)
                elif kinds[i] is Kind.PROJECT:
                    node = self.wiring.nodes[i]
                    assert isinstance(node, Project)
                    value = project(resolve(node.of, self.values), node.path)
                    self._settle(i, value, ready)
                else:
                    self._take_side(i, ready)
        except Exception as error:  # of a branch's condition it may be the value's own code
            self._fail(as_fault(error), self.wiring.nodes[i].id)

    def _take_side(self, i: int, ready: list[int]) -> None:
        """Choose a branch's side, demand what it needs, and settle the branch once it is there."""
        node = self.wiring.nodes[i]
        assert isinstance(node, Branch)
        side = node.then if resolve(node.condition, self.values) else node.otherwise
        missing = [r for r in self.wiring.open_refs(side) if not self._has(r)]
        if not missing:
            self._settle(i, resolve(side, self.values), ready)
            return
        self._waiting[i] = len(missing)
        for r in missing:
            self._sides.setdefault(r, []).append(i)
            self._demand(r, ready)

    def _demand(self, i: int, ready: list[int]) -> None:
        stack = [i]
        while stack:
            i = stack.pop()
            if self._waiting[i] != NOT_DEMANDED:
                continue
            missing = [w for w in self.wiring.wants[i] if not self._has(w)]
            self._waiting[i] = len(missing)
            if not missing:
                ready.append(i)
            stack += missing

    def _has(self, i: int) -> bool:
        return self.wiring.nodes[i].id in self.values

    # -- prompts begun early -------------------------------------------------------------------

    def _begin_heads(self) -> None:
        """Have prompts begun whose first values are there while others are awaited."""
        assert self._warm is not None
        for i, wanted in list(self._splits.items()):
            if self._waiting[i] != NOT_DEMANDED and all(map(self._has, wanted)):
                del self._splits[i]
                if self._waiting[i] > 0:
                    task = asyncio.get_running_loop().create_task(self._warm(self, i))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    def keep_head(self, i: int, head: Kept) -> None:
        """Hold the beginning of a node's prompt until its call has ended."""
        if self._waiting[i] > 0 and not self.done.done():
            self._heads[i] = head
        else:
            head.release()  # it came too late

    def take_head(self, id: str) -> Kept | None:
        """The beginning kept for a call, whose to give back it is now."""
        return self._heads.pop(self.wiring.index[id], None) if self._heads else None

    # -- work ----------------------------------------------------------------------------------

    def _spawn(self, i: int) -> None:
        task = asyncio.get_running_loop().create_task(self._run(i))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, i: int) -> None:
        node = self.wiring.nodes[i]
        try:
            self._goes_on(i, await self._work(self, i))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody has cancelled this task: what it awaited was, as a backend may do.
            self._fail(EngineError("it was cancelled where it was under way"), node.id)
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of an extension is no Exception
            self._fail(as_fault(error), node.id)

    def _goes_on(self, i: int, value: Any) -> None:
        """A node has its value: what waited for it begins."""
        ready: list[int] = []
        self._settle(i, value, ready)
        if ready:
            self._advance(ready)
        if self._splits:
            self._begin_heads()
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        if self.done.done():
            return
        try:
            output = resolve(self.wiring.workflow.output, self.values)
        except Exception as error:
            self._fail(as_fault(error), "output")
        else:
            self.done.set_result(output)

    def _fail(self, error: PlaitError, node: str) -> None:
        """End this program with its first error; what else it had under way is cancelled."""
        if isinstance(error, RowError) and error.node is None:
            error.node = self.path + node
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
        if not self.done.done():
            self.done.set_exception(error)
