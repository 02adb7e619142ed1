"""Workers that idle beside others that do not: they look for calls to take over, and load models
for them where `dispatch` finds that this pays."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...dag.dispatching import Site
from ..bridge import cancel
from ..dispatch import Dispatch
from ..routing import REST
from ..stealing import Steal
from ..ticket import Ticket
from .local import LocalBackend
from .sites import Sites

log = logging.getLogger("plait")


@dataclass(frozen=True, slots=True)
class _Guest:
    """A model that a worker is loading for others' calls."""

    steal: Steal
    task: asyncio.Task[None]


class Idling:
    """Finds work for the workers of one backend. `lock`: held while `dispatch` is asked; `move`:
    has calls begin anew where they were taken to; `loading`: whether a worker is loading what is
    placed on it."""

    def __init__(
        self, workers: Sequence[LocalBackend], dispatch: Dispatch, sites: Sites,
        lock: threading.RLock, move: Callable[[Iterable[Ticket]], None],
        loading: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self._workers, self._dispatch, self._sites = workers, dispatch, sites
        self._lock = lock
        self._move, self._loading = move, loading
        self._guests: dict[int, _Guest] = {}
        self._looking: asyncio.AbstractEventLoop | None = None

    def stir(self) -> None:
        """Something has changed: if a worker idles for a moment, look for what it could do."""
        with self._lock:
            if self._looking is not None and self._looking.is_running():
                return
            idle = self._idle()
            if idle and len(idle) < len(self._workers):
                self._looking = asyncio.get_running_loop()
                self._looking.call_later(REST, self._look)

    def at_home(self, worker: int) -> None:
        """A call comes to a worker: what it was about to load in the place of its own models had
        better not come."""
        with self._lock:
            guest = self._guests.get(worker)
            if guest is not None and guest.steal.out:
                cancel(guest.task)
                self._dispatch.stealing.dropped(worker)

    def _idle(self) -> list[int]:
        """Workers without calls, and without a model that comes."""
        return [
            number for number, worker in enumerate(self._workers)
            if self._dispatch.idle(number) and number not in self._guests
            and not self._loading(number) and not worker.moving
        ]  # fmt: skip

    def _look(self) -> None:
        """Let the first worker that idles, and for which there is something to do, do it."""
        with self._lock:
            self._looking = None
            idle = self._idle()
            if not idle or len(idle) == len(self._workers):
                return
            coming = {number: {guest.steal.model} for number, guest in self._guests.items()}
            asked, each = self._dispatch.models(), range(len(self._workers))
            sites = self._sites.all(asked, [coming.get(number, set()) for number in each])
            for worker in idle:
                steal = self._dispatch.steal(worker, sites)
                if steal is not None:
                    log.info("%s", steal.why)
                    self._follow(steal, worker, sites)
                    self.stir()
                    return

    def _follow(self, steal: Steal, worker: int, sites: Sequence[Site]) -> None:
        if not steal.load:
            self._move(self._dispatch.taken(steal, sites))
            return
        task = asyncio.create_task(self._invite(worker, steal.model))
        self._guests[worker] = _Guest(steal, task)
        task.add_done_callback(lambda task: self._came(worker, task))

    async def _invite(self, worker: int, model: str) -> None:
        """Load a model for calls that wait elsewhere."""
        try:
            await self._workers[worker].open((model,))
        except Exception as error:  # its calls go on where they are
            log.debug("a model was not loaded for calls that wait elsewhere: %s", error)

    def _came(self, worker: int, task: asyncio.Task[None]) -> None:
        """A guest is there, or will not come: its task may have been cancelled before it began."""
        with self._lock:
            guest = self._guests.get(worker)
            if guest is not None and guest.task is task:
                del self._guests[worker]
        if not task.cancelled():
            self._look()
