"""Which rows are under way: so many that models have work, and no more than can be afforded.

A row that waits for nothing but tools rests: it asks no model, so it makes room for a row that
will. That way slow tools do not leave a model idle while rows are left to begin. A row that waits
for a model to be loaded, or for another row's work, is parked: it needs nothing but its few
kilobytes, and the more rows wait for a model the seldomer models must take turns. It does not count
as under way at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple

from ..dag.errors import PlaitError
from ..dag.identity import row_id
from .row import Item, Row, RowIn, RowState

BUSY = 256
"""Most rows under way that do not rest: as many as a model takes into one step."""
PARKED = 16_384
"""Most rows under way and parked together: a parked one takes about 10 KB."""


class Entry(NamedTuple):
    """A row on its way in."""

    place: int
    """In the input."""
    rank: int
    """In the order of starting."""
    row: RowIn

    def state(self, planned: bool) -> RowState:
        """What is counted for it while it runs, for a plan of these rows or without one."""
        place = self.place if planned else -1
        if isinstance(self.row, Item):
            return RowState(self.row.id, self.row.index, place, self.rank)
        id = self.place if isinstance(self.row, PlaitError) else row_id(self.row, self.place)
        return RowState(id, self.place, place, self.rank)

    def content(self) -> Mapping[str, Any]:
        """Its columns; raises why they cannot be read."""
        content = self.row.content if isinstance(self.row, Item) else self.row
        if isinstance(content, PlaitError):
            raise content
        return content


def entries(rows: Iterable[RowIn], order: Sequence[int] | None = None) -> Iterator[Entry]:
    """The rows in the order in which they start: a plan's, or that in which they come."""
    if order is None or not isinstance(rows, list):
        return (Entry(place, place, row) for place, row in enumerate(rows))
    return (Entry(place, rank, rows[place]) for rank, place in enumerate(order))


Begin = Callable[[Entry], Row | Coroutine[Any, Any, Row]]
"""What is to be run for a row, or its result when it has failed already."""


class Admission:
    """Lets rows in, at most `window` under way at once, and gives them out as they finish."""

    def __init__(self, source: Iterator[Entry], window: int, begin: Begin) -> None:
        self._source, self._window, self._begin = source, window, begin
        self._running: set[asyncio.Task[Row]] = set()
        self._finished: asyncio.Queue[Row | asyncio.Task[Row]] = asyncio.Queue()
        self._resting = self._parked = 0
        self._open = True

    def stop(self) -> None:
        """Let no further rows in; those under way finish."""
        self._open = False

    def rest(self, more: int) -> None:
        """So many rows more (or fewer) wait for tools only."""
        self._resting += more
        if more > 0:
            self._admit()

    def park(self, more: int) -> None:
        """So many rows more (or fewer) wait for a model to be loaded, or for another row."""
        self._parked += more
        if more > 0:
            self._admit()

    async def rows(self) -> AsyncIterator[Row]:
        """Results as rows finish, until there are no more."""
        self._admit()
        while self._running or not self._finished.empty():
            found = await self._finished.get()
            self._admit()
            yield found if isinstance(found, Row) else found.result()

    async def close(self) -> None:
        """Cancel what is under way."""
        self._open = False
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _admit(self) -> None:
        """Let rows in until there are enough."""
        while self._open and self._has_room():
            entry = next(self._source, None)
            if entry is None:
                self._open = False
                return
            begun = self._begin(entry)
            if isinstance(begun, Row):
                self._finished.put_nowait(begun)
                continue
            task = asyncio.get_running_loop().create_task(begun)
            self._running.add(task)
            task.add_done_callback(self._end)

    def _has_room(self) -> bool:
        # Results that nobody has taken yet count too: a slow reader holds the run back.
        rows = len(self._running) + self._finished.qsize()
        under_way = rows - self._parked
        return rows < PARKED and under_way < self._window and rows - self._resting < BUSY

    def _end(self, task: asyncio.Task[Row]) -> None:
        self._running.discard(task)
        self._finished.put_nowait(task)
