"""Rows of a run as they finish, for a caller without an event loop."""

from __future__ import annotations

from collections.abc import Iterable

from .bridge import LoopThread, Stream
from .executor import Executor
from .row import Row, RowIn
from .run import Stats


class RowStream(Stream[Row]):
    """Rows as they finish, with the run's counters. `stop()` admits no further rows."""

    def __init__(self, executor: Executor, rows: Iterable[RowIn], loop: LoopThread) -> None:
        super().__init__(executor.run(rows), loop, executor.stop)
        self.stats: Stats = executor.stats
