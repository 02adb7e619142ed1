"""A device of a rehearsal: what its worker may hold, and the thread that does its work.

Workers on one device share its thread: of all their models one takes a step, or is loaded, at a
time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .phases import Move
from .rehearsed_worker import Worker
from .serving import Serving

if TYPE_CHECKING:
    from .rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class Device:
    """A worker as it is when a rehearsal begins."""

    models: Mapping[str, Serving]
    """By alias; aliases of one model have the same one."""
    names: Mapping[str, str] = field(default_factory=dict)
    """By alias, the model's name; the first of its aliases unless told."""
    there: frozenset[str] | None = None
    """Models that need not be loaded; None for all."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by model, weights and KV; of all of them, where there is a limit."""
    limit: int | None = None
    """Bytes for all models together; None sets no limit."""
    loads: Mapping[str, float] = field(default_factory=dict)
    """Seconds that loading a model takes."""
    start: frozenset[str] = frozenset()
    """Models that are loaded as the batch begins: its first row waits for one of them."""
    processor: int = 0
    """Workers on one device share its thread."""


class Processor:
    """The thread of a device."""

    def __init__(self, world: Rehearsal) -> None:
        self.world = world
        self.workers: list[Worker] = []
        self.busy = False
        self._loads: deque[tuple[Worker, Move]] = deque()
        self._turn = 0

    def load(self, worker: Worker, move: Move) -> None:
        self._loads.append((worker, move))
        self.begin()

    def begin(self) -> None:
        """Load, or take the next step, if nothing else is done."""
        if self.busy:
            return
        if self._loads:
            worker, move = self._loads.popleft()
            self.busy = True
            self.world.at(worker.loading(move), lambda: self._end(lambda: worker.loaded(move)))
            return
        ready = [pair for worker in self.workers for pair in worker.ready()]
        if not ready:
            return
        self._turn += 1
        worker, serving = ready[self._turn % len(ready)]
        stepped = serving.step(self.world.now)
        seconds = stepped.seconds * self.world.stage.disturbed
        self.busy = True
        worker.seconds += seconds
        self.world.at(seconds, lambda: self._end(lambda: worker.stepped(stepped.done)))

    def _end(self, then: Callable[[], None]) -> None:
        self.busy = False
        then()
        self.begin()
