"""Work that only explains: in a thread of its own beside the event loop, for a while at most."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..dag.errors import first_line

T = TypeVar("T")
log = logging.getLogger("plait")


class GivenUp(Exception):
    """Nobody waits for the work any more."""


class Looked(Generic[T]):
    """Items for work that may be given up: going through them ends then."""

    def __init__(self, items: Collection[T], given_up: threading.Event) -> None:
        self._items, self._given_up = items, given_up

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[T]:
        """Raises GivenUp."""
        for item in self._items:
            if self._given_up.is_set():
                raise GivenUp
            yield item


@contextmanager
def explaining() -> Iterator[None]:
    """What goes wrong inside the block fails no run: that is over, and on disk."""
    try:
        yield
    except Exception as error:
        log.warning("the run is on disk, but not all of its plan: %s", first_line(error))


async def aside(work: Callable[[threading.Event], T], seconds: float) -> T | None:
    """What the work returns or raises; None when it takes longer.

    No thread can be stopped: the work is told by the event that it is given up, when its time is
    over or this is cancelled, and nobody waits for it then. A process does not wait for it either.
    """
    given_up, found = threading.Event(), Future[T]()

    def run() -> None:
        if not found.set_running_or_notify_cancel():
            return
        try:
            found.set_result(work(given_up))
        except BaseException as error:
            found.set_exception(error)

    waiting = asyncio.wrap_future(found)
    threading.Thread(target=run, name="plait-aside", daemon=True).start()
    try:
        done, _ = await asyncio.wait([waiting], timeout=seconds)
        return waiting.result() if done else None
    finally:
        given_up.set()
        waiting.cancel()
