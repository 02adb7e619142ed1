"""Several workers in virtual time, which ask `Dispatch` who does what: calls that take their
seconds, so many at once, and models that take theirs to load."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from plait.dag.dispatching import Site
from plait.dag.placement import Placement, Stage
from plait.engine.dispatch import Dispatch
from plait.engine.stealing import Steal
from plait.engine.ticket import Ticket


@dataclass
class Worker:
    """One of them. A model has calls, begun or not, or is not there."""

    there: set[str]
    moving: str | None = None
    running: set[Ticket] = field(default_factory=set)
    queue: list[Ticket] = field(default_factory=list)


@dataclass
class Fleet:
    """Workers that hold these models to begin with, which is where they are placed."""

    homes: Sequence[str]
    sizes: Mapping[str, int]
    limit: int
    loads: Mapping[str, float]
    steals: bool = True
    at_once: int = 2
    took: float = 1.0
    """How long calls take, for every second that they were expected to."""
    again: Callable[[Ticket, Fleet], None] = lambda ticket, fleet: None
    """Told of every call that has ended."""
    clock: float = 0.0
    found: list[Steal] = field(default_factory=list)
    moves: list[tuple[int, str]] = field(default_factory=list)
    done: list[Ticket] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = tuple(frozenset(held.split()) for held in self.homes)
        self.workers = [Worker(set(held)) for held in config]
        self.dispatch = Dispatch(len(config))
        asked = frozenset(f"0:{model}" for held in config for model in held)
        stage = Stage(config, (0.0,) * len(config), {}, 0.0, asked)
        self.dispatch.homes.follow(Placement((stage,), True), {})
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()

    def ask(self, model: str, seconds: float) -> None:
        order = next(self.order)
        ticket = Ticket(model, model, order, seconds=seconds, priority=-float(order))
        self._begin(ticket)

    def run(self) -> float:
        """Until nothing is left to do; the seconds it took."""
        self._advance()
        while self.events:
            self.clock, _, happens = heapq.heappop(self.events)
            happens()
            self._advance()
        assert all(not w.running and not w.queue for w in self.workers), "somebody waits for ever"
        return self.clock

    def at(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.clock + seconds, next(self.order), happens))

    def _begin(self, ticket: Ticket) -> None:
        chosen = self.dispatch.choose(ticket, [ticket.model in w.there for w in self.workers])
        self.dispatch.begins(ticket, chosen)
        self.workers[chosen].queue.append(ticket)
        if ticket.model not in self.workers[chosen].there:
            self.dispatch.waits(ticket, True)

    def _advance(self) -> None:
        for number, worker in enumerate(self.workers):
            ready = [t for t in worker.queue if t.model in worker.there]
            ready.sort(key=lambda ticket: -ticket.priority)
            for ticket in ready[: self.at_once - len(worker.running)]:
                self._start(number, ticket)
            missing = [t for t in worker.queue if t.model not in worker.there]
            if missing and not worker.running and worker.moving is None:
                self._load(number, missing[0].model)
        for number, worker in enumerate(self.workers):
            idle = self.dispatch.idle(number) and worker.moving is None
            if self.steals and idle:
                self._steal(number)

    def _start(self, number: int, ticket: Ticket) -> None:
        worker = self.workers[number]
        worker.queue.remove(ticket)
        worker.running.add(ticket)
        if ticket.missing:
            self.dispatch.waits(ticket, False)
        self.dispatch.begun(ticket)
        # So many at once share a worker: each takes as many times its work.
        seconds = ticket.seconds * self.at_once * self.took
        self.at(seconds, lambda: self._end(number, ticket))

    def _end(self, number: int, ticket: Ticket) -> None:
        self.workers[number].running.remove(ticket)
        self.dispatch.ends(ticket, ticket.seconds * self.took)
        self.done.append(ticket)
        self.again(ticket, self)

    def _load(self, number: int, model: str, out: Sequence[str] | None = None) -> None:
        worker = self.workers[number]
        worker.moving = model
        if out is None:
            kept = {model}
            for other in sorted(worker.there):
                if self._size(kept | {other}) <= self.limit:
                    kept.add(other)
            worker.there &= kept
        worker.there.difference_update(out or ())
        assert self._size(worker.there | {model}) <= self.limit, "a model that does not fit"
        self.moves.append((number, model))
        self.at(self.loads[model], lambda: self._loaded(number, model))

    def _loaded(self, number: int, model: str) -> None:
        self.workers[number].moving = None
        self.workers[number].there.add(model)

    def _size(self, models: set[str]) -> int:
        return sum(self.sizes[m] for m in models)

    def _steal(self, number: int) -> None:
        sites = [
            Site(
                frozenset(w.there), frozenset([w.moving] if w.moving else []),
                {m: sum(t.model == m and not t.missing for t in w.queue) for m in self.sizes},
                self.sizes, self.limit, self.loads,
            )
            for w in self.workers
        ]  # fmt: skip
        steal = self.dispatch.steal(number, sites)
        if steal is None:
            return
        self.found.append(steal)
        if steal.load:
            self._load(number, steal.model, steal.out)
            return
        for ticket in self.dispatch.taken(steal, sites):
            assert ticket.worker is not None
            worker = self.workers[ticket.worker]
            assert ticket not in worker.running, "who waits was not taken first"
            worker.queue.remove(ticket)
            self.dispatch.ends(ticket)
            self._begin(ticket)
        self._advance()
