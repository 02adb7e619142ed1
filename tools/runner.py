"""Running a tool: off the event loop's way, within its time, with typed errors.

Plain functions run in threads (see `threads`), `async def` functions each in a task of its own: a
task can be given up when its tool ignores cancellation, has its own context variables, and a tool
that cancels "the current task" cancels itself, not the row that called it.

Everything a tool does wrong ends as a RowError. Only cancellation from outside passes through.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from ..dag.errors import RowError, ToolError, ToolTimeout, first_line
from ..dag.live import PROGRAM
from .threads import Job, Threads
from .tool import Tool

GRACE = 1.0
"""Seconds a cancelled async tool has to clean up before it is given up."""
FIRST_DELAY = 0.1
MAX_DELAY = 10.0


class Runner:
    """Runs tools; holds the threads of plain ones and the random state of retry delays."""

    def __init__(
        self, *, threads: Threads | None = None, seed: int = 0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self.threads = threads or Threads()
        self._random = random.Random(seed)
        self._sleep = sleep
        self._given_up: set[asyncio.Task[Any]] = set()

    async def run(self, tool: Tool[..., Any], arguments: Mapping[str, Any], *, node: str) -> Any:
        """Call a tool; see `run_tool`."""
        attempt = self._in_task if tool.is_async else self._in_thread
        if not tool.retries:
            return await attempt(tool, arguments, node)
        for number in range(tool.retries):
            try:
                return await attempt(tool, arguments, node)
            except (ToolError, ToolTimeout):
                await self._sleep(self._delay(number))
        try:
            return await attempt(tool, arguments, node)
        except (ToolError, ToolTimeout) as error:
            error.args = (f"{error} (after {tool.retries + 1} attempts)",)
            raise

    def _delay(self, number: int) -> float:
        """Seconds before retry `number`: doubling, and jittered so that rows do not retry as one"""
        longest: float = min(FIRST_DELAY * 2**number, MAX_DELAY)
        return longest * (0.5 + self._random.random() / 2)

    # -- async tools ---------------------------------------------------------------------------

    async def _in_task(self, tool: Tool[..., Any], arguments: Mapping[str, Any], node: str) -> Any:
        task = asyncio.get_running_loop().create_task(_await(tool, arguments, node))
        try:
            done, _ = await asyncio.wait((task,), timeout=tool.timeout)
        except asyncio.CancelledError:
            await self._stop(task)
            raise
        if not done and not await self._stop(task):
            message = f"{_took_too_long(tool)}, and goes on although it was cancelled"
            raise ToolTimeout(message, node)
        if task.cancelled():
            if done:
                raise ToolError(f"tool {tool.name!r} cancelled itself", node)
            raise ToolTimeout(_took_too_long(tool), node)
        error = task.exception()
        if error is not None and not done:
            raise ToolTimeout(_took_too_long(tool), node) from error
        return task.result()

    async def _stop(self, task: asyncio.Task[Any]) -> bool:
        """Cancel a task and wait a moment for it to clean up; False when it goes on."""
        task.cancel()
        self._given_up.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait((task,), timeout=GRACE)
        return bool(done)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()  # it has been seen: nothing to log

    # -- plain tools ---------------------------------------------------------------------------

    async def _in_thread(
        self, tool: Tool[..., Any], arguments: Mapping[str, Any], node: str
    ) -> Any:
        call = _ThreadCall(self.threads, tool, arguments, node)
        try:
            self.threads.submit(call.job)
            return await call.done
        except ToolError as error:
            error.node = node
            raise
        except asyncio.CancelledError:
            self.threads.abandon(call.job)
            raise
        finally:
            call.timer.cancel()


async def run_tool(tool: Tool[..., Any], arguments: Mapping[str, Any], *, node: str) -> Any:
    """Call a tool with arguments by name and return its result, both checked, for node `node`.

    Raises OutputError when an argument or the result is not of its declared type or not JSON,
    ToolTimeout when every attempt ran out of time, ToolError when the tool raised; each names the
    node and keeps the cause.
    """
    return await _DEFAULT.run(tool, arguments, node=node)


_DEFAULT = Runner()


class _ThreadCall:
    """One call in a thread, awaited through the future `done`."""

    def __init__(
        self, threads: Threads, tool: Tool[..., Any], arguments: Mapping[str, Any], node: str
    ) -> None:
        self.threads, self.tool, self.arguments, self.node = threads, tool, arguments, node
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()
        self.done: asyncio.Future[Any] = self.loop.create_future()
        self.job = Job(tool.name, self.work, self.refuse, self.loop.time)
        self.timer = self.loop.call_later(tool.timeout, self.check_time)

    def work(self) -> None:
        """In the thread: run the tool. Nothing is raised into the thread itself."""
        try:
            value, error = _call(self.context, self.tool, self.arguments, self.node), None
        except RowError as failure:
            value, error = None, failure
        self.deliver(value, error)

    def refuse(self, error: ToolError) -> None:
        """In any thread: no thread will ever run this call."""
        self.deliver(None, ToolError(str(error), self.node))

    def deliver(self, value: Any, error: RowError | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self.settle, value, error)

    def settle(self, value: Any, error: RowError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(value)
        else:
            self.done.set_exception(error)

    def check_time(self) -> None:
        """Give up when the time is over. Waiting for a thread does not count as the tool's."""
        left, started = self.tool.timeout, self.job.started
        if started is not None:
            left += started - self.loop.time()
        if left > 0:
            self.timer = self.loop.call_later(left, self.check_time)
            return
        self.threads.abandon(self.job)
        stuck = f"its thread is left behind ({self.threads.stuck} such)"
        self.settle(None, ToolTimeout(f"{_took_too_long(self.tool)}; {stuck}", self.node))


async def _await(tool: Tool[..., Any], arguments: Mapping[str, Any], node: str) -> Any:
    PROGRAM.set(None)  # a tool's body is plain Python; this task's context is its own
    with _Blame(tool, node, (RowError,)):
        values = tool.arguments.read(arguments, node)
        with _Blame(tool, node):
            value = await tool.fn(**values)
        return tool.result.check(value, node)


def _call(context: Context, tool: Tool[..., Any], arguments: Mapping[str, Any], node: str) -> Any:
    context.run(PROGRAM.set, None)
    with _Blame(tool, node, (RowError,)):
        values = tool.arguments.read(arguments, node)
        with _Blame(tool, node):
            value = context.run(tool.fn, **values)
        return tool.result.check(value, node)


class _Blame:
    """Turns whatever is raised inside into a ToolError, SystemExit too; lets `passing` through.

    In an async tool cancellation and closing (GeneratorExit) pass as well, since they come from
    the event loop; in a thread they can only be the tool's own.
    """

    __slots__ = ("node", "passing", "tool")

    def __init__(
        self, tool: Tool[..., Any], node: str,
        passing: tuple[type[BaseException], ...] = (),
    ) -> None:  # fmt: skip
        self.tool, self.node, self.passing = tool, node, passing

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or isinstance(error, self.passing):
            return
        if self.tool.is_async and isinstance(error, asyncio.CancelledError | GeneratorExit):
            return
        raise _failure(self.tool, error, self.node) from error


def _took_too_long(tool: Tool[..., Any]) -> str:
    return f"tool {tool.name!r} took longer than {tool.timeout:g} s"


def _failure(tool: Tool[..., Any], error: BaseException, node: str) -> ToolError:
    """What a tool raised as an error of its row; a ToolError keeps the tool's own words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        text = first_line(error)
    except Exception:  # its __str__ raises
        text = ""
    if isinstance(error, ToolError):
        return ToolError(text, node)
    kind = type(error).__name__
    told = kind if text in ("", kind) else f"{kind}: {text}"
    return ToolError(f"tool {tool.name!r} raised {told}", node)
