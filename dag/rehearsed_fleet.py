"""The workers of a rehearsal, and who of them does a call.

Where there are several a `Dispatching` decides, which is the policy that real workers follow: by
placement, by beginnings of prompts, and by taking over what waits elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .ahead import Ahead
from .dispatching import Site
from .rehearsed_device import Processor
from .rehearsed_heads import Release
from .rehearsed_worker import Asked, Worker
from .serving import Done, Times, Used
from .turns import Place, place_of

if TYPE_CHECKING:
    from .rehearsal import Rehearsal

ON = " on "
"""Between a model and its worker, where there are several."""


class Fleet:
    """All workers."""

    def __init__(self, world: Rehearsal) -> None:
        devices = world.stage.workers
        self._world, self._dispatch = world, world.stage.dispatch
        self._processors = {device.processor: Processor(world) for device in devices}
        self._workers = [
            Worker(world, self._processors[device.processor], device) for device in devices
        ]
        self._calls: dict[int, tuple[Asked, Worker]] = {}
        self._guests: dict[int, tuple[str, bool]] = {}
        """By worker, what it is loading for others' calls, and whether its own make room."""
        self._looking = False
        self.returned: Counter[str] = Counter()
        """Tool calls that are over, by step."""

    @property
    def busy(self) -> bool:
        """Whether anybody computes or loads."""
        return any(processor.busy for processor in self._processors.values())

    def used(self) -> dict[str, Used]:
        """What steps have added up to, by model."""
        several = len(self._workers) > 1
        return {
            f"{name}{ON}{number}" if several else name: used
            for number, worker in enumerate(self._workers) for name, used in worker.used.items()
        }  # fmt: skip

    def seconds(self) -> tuple[dict[int, float], dict[int, float]]:
        """In which each worker computes, and in which it loads."""
        workers = list(enumerate(self._workers))
        return {n: w.seconds for n, w in workers}, {n: w.load_seconds for n, w in workers}

    def start(self, then: Callable[[], None]) -> None:
        """Load what the workers begin with, and go on as soon as one of these models is there."""
        comes = [
            (worker, name)
            for worker, device in zip(self._workers, self._world.stage.workers, strict=True)
            for name in sorted(device.start) if name not in worker.there
        ]  # fmt: skip
        left = [then]

        def came() -> None:
            if left:
                left.pop()()

        if not comes or len(comes) < sum(len(d.start) for d in self._world.stage.workers):
            came()
        for worker, name in comes:
            worker.bring(name, came)

    # -- calls and tools -----------------------------------------------------------------------

    def ask(self, asked: Asked) -> None:
        """A call begins."""
        if self._dispatch is None:
            self._give(asked, 0)
            return
        name = self._workers[0].names[asked.alias]
        has = [name in worker.there for worker in self._workers]
        number = self._dispatch.begins(asked.number, name, asked.step, asked.ask, has, asked.talk)
        if number in self._guests and self._guests[number][1]:
            self._workers[number].forget(self._guests.pop(number)[0])
            self._dispatch.dropped(number)
        self._give(asked, number)
        self._stir()

    def warm(self, alias: str, tokens: Sequence[int], awaited: Sequence[Times]) -> Release | None:
        """Have the beginning of a prompt computed early, if its model is there. Of several workers
        it is not known which will have the call."""
        return self._workers[0].warm(alias, tokens, awaited) if self._dispatch is None else None

    def ended(self, asked: Asked, end: Done) -> None:
        """A call is over."""
        _, worker = self._calls.pop(asked.number)
        if self._dispatch is not None:
            self._dispatch.ends(asked.number, end)
            self._freed(self._workers.index(worker), 2)
            self._stir()

    def missing(self, asked: Asked, missing: bool) -> None:
        """A call begins to wait for its model, or goes on."""
        asked.waits(self._world, missing)
        if self._dispatch is not None:
            self._dispatch.waits(asked.number, missing)

    def came(self, worker: Worker) -> None:
        """A model has been loaded."""
        if self._dispatch is None:
            return
        number = self._workers.index(worker)
        if number in self._guests and self._guests[number][0] in worker.there:
            del self._guests[number]
            self._look(rested=False)
        self._freed(number, len(self._calls))

    def at_work(self, ahead: Ahead | None, step: str, begins: bool) -> None:
        """A tool begins or ends: what comes after it may go to any worker."""
        if not begins:
            self.returned[step] += 1
        if ahead is None:
            return
        for number, worker in enumerate(self._workers):
            worker.at_work(Place(step, None, self._view(ahead, number)), begins)

    def _give(self, asked: Asked, number: int) -> None:
        worker = self._workers[number]
        ahead = self._view(asked.row.ahead, number) if asked.row.ahead is not None else None
        asked.place = place_of(worker.names[asked.alias], asked.step, ahead)
        self._calls[asked.number] = asked, worker
        worker.asks(asked)

    def _view(self, ahead: Ahead, number: int) -> Ahead:
        return self._dispatch.view(ahead, number) if self._dispatch is not None else ahead

    # -- calls that wait elsewhere -------------------------------------------------------------

    def _freed(self, number: int, most: int) -> None:
        """A worker that has become freer takes calls that wait elsewhere for their model."""
        assert self._dispatch is not None
        self._move(self._dispatch.freed(number, sorted(self._workers[number].there), most))

    def _move(self, numbers: Iterable[int]) -> None:
        assert self._dispatch is not None
        for number in numbers:
            asked, worker = self._calls[number]
            if worker.leaves(asked):
                del self._calls[number]
                self._dispatch.ends(number, None)
                self.ask(asked)

    def _stir(self) -> None:
        """If a worker idles for a moment, look for what it could do."""
        assert self._dispatch is not None
        if not self._looking and self._calls and self._idle():
            self._looking = True
            self._world.at(self._dispatch.rest, self._look)

    def _idle(self) -> list[int]:
        assert self._dispatch is not None
        return [
            number for number, worker in enumerate(self._workers)
            if self._dispatch.idle(number) and not worker.loads and number not in self._guests
        ]  # fmt: skip

    def _look(self, rested: bool = True) -> None:
        """Let the first worker that idles, and for which there is something to do, do it."""
        assert self._dispatch is not None
        self._looking = self._looking and not rested
        idle = self._idle() if self._calls else []
        sites = [self._site(number) for number in range(len(self._workers))] if idle else []
        for number in idle:
            found = self._dispatch.steal(number, sites)
            if found is None:
                continue
            if found.calls is None:
                self._guests[number] = found.model, bool(found.out)
                self._workers[number].bring(found.model)
            else:
                self._move(found.calls)
            self._stir()
            return

    def _site(self, number: int) -> Site:
        worker, memory = self._workers[number], self._workers[number].device
        coming = {self._guests[number][0]} if number in self._guests else ()
        return Site(
            frozenset(worker.there), frozenset(coming), worker.queued, memory.sizes, memory.limit,
            memory.loads,
        )  # fmt: skip
