"""What rows wait for: models that write, tools, models to be loaded, other rows.

It decides which rows count as busy: see `Admission`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ..dag.ahead import Ahead, step_of
from .admission import Admission
from .backends.backend import Backend, TakesTurns
from .row import RowState


class Waits:
    """Counts what the rows of one run wait for, and tells who lets rows in."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.admission: Admission | None = None
        self.ahead: Ahead | None = None
        """What the plan knows of the work ahead, where several models may have to take turns."""

    def call_begins(self, row: RowState) -> None:
        """The row asks a model."""
        if row.calls == 0 and row.waits:
            self._count(resting=-1)
        row.calls += 1

    def call_ends(self, row: RowState) -> None:
        row.calls -= 1
        if row.calls == 0 and row.waits:
            self._count(resting=1)

    def wait_begins(self, row: RowState, parked: bool = False) -> None:
        """The row waits, and rests if it asks no model meanwhile: for a tool; or, parked, for a
        model to be loaded or for what another row does."""
        row.waits += 1
        if row.waits == 1 and not row.calls:
            self._count(resting=1)
        row.parked += parked
        if parked and row.parked == 1:
            self._count(parked=1)

    def wait_ends(self, row: RowState, parked: bool = False) -> None:
        row.waits -= 1
        if not row.waits and not row.calls:
            self._count(resting=-1)
        row.parked -= parked
        if parked and not row.parked:
            self._count(parked=-1)

    def model_missing(self, row: RowState, missing: bool) -> None:
        """A call of the row begins to wait for its model to be loaded, or goes on."""
        if missing:
            self.wait_begins(row, parked=True)
            self.call_ends(row)
        else:
            self.call_begins(row)
            self.wait_ends(row, parked=True)

    @contextmanager
    def at_work(self, row: RowState, path: str) -> Iterator[None]:
        """Inside, the row waits for a tool."""
        work: AbstractContextManager[None] = nullcontext()
        if self.ahead is not None and isinstance(self._backend, TakesTurns):
            work = self._backend.at_work(self.ahead, step_of(path))
        self.wait_begins(row)
        try:
            with work:
                yield
        finally:
            self.wait_ends(row)

    def _count(self, resting: int = 0, parked: int = 0) -> None:
        if self.admission is not None and resting:
            self.admission.rest(resting)
        if self.admission is not None and parked:
            self.admission.park(parked)
