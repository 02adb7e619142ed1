"""One event loop in a thread, so that synchronous code (scripts, notebooks) can run coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from ..dag.errors import EngineError

T = TypeVar("T")
GRACE = 10.0
"""Seconds for what was cancelled to end in."""


class LoopThread:
    """An event loop in a daemon thread, started at its first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def check_open(self) -> None:
        """Raise EngineError once `close` was called."""
        if self._closed:
            raise EngineError("the engine is closed")

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            self.check_open()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="plait-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. An interrupt while waiting cancels it."""
        try:
            loop = self.loop()
        except EngineError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what runs and end the thread; a second call does nothing. Whoever runs on the loop
        itself is cancelled, too, as soon as it awaits something."""
        with self._lock:
            loop, thread, self._loop, self._closed = self._loop, self._thread, None, True
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_end(), loop)
        if threading.current_thread() is not thread:
            thread.join(timeout=2 * GRACE)


def cancel(work: asyncio.Future[Any] | None) -> None:
    """Cancel work, from whatever thread or event loop; nothing if its own is closed."""
    if work is not None:
        with suppress(RuntimeError):
            work.get_loop().call_soon_threadsafe(work.cancel)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped."""
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _end() -> None:
    """Cancel what else runs, and stop the loop when that has ended, or after a while."""
    loop = asyncio.get_running_loop()
    loop.call_later(GRACE, loop.stop)  # a tool may go on although it was cancelled
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    loop.stop()


class Stream(Generic[T]):
    """A synchronous view of an async iterator that lives in a `LoopThread`.

    Close it, or use it in a `with` block, to cancel what is still running.
    """

    def __init__(self, items: AsyncIterator[T], loop: LoopThread, stop: Callable[[], None]) -> None:
        self._items, self._loop, self.stop = items, loop, stop
        """`stop()` lets what is under way finish and starts nothing new; any thread may call it."""

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self._loop.run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next(self) -> T:
        return await anext(self._items)

    def close(self) -> None:
        """Cancel what is still running."""
        self._loop.run(self._items.aclose())  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
