"""Which of several workers does a call, and when one of them takes calls over from another.

Policy only, and the same for workers and for rehearsed ones: no clock, no models. A call goes where
a plan has placed its model or to who has it anyway (`homes.py`), near those that begin like it
(`routing.py`). A plan is advice: who idles takes calls that wait elsewhere, and loads their model
if that pays (`stealing.py`). A model that is loaded so is a guest: as soon as calls that are placed
on the worker wait for another model, it gets no more calls, ends those it has, and makes room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..dag.dispatching import Site
from ..dag.phases import make_room
from .call_work import CallWork
from .homes import Homes
from .routing import REMEMBERED, Routes
from .stealing import Chance, Queue, Steal, Stealing
from .ticket import Ticket


@dataclass(slots=True)
class _Line:
    """The calls of one model on one worker."""

    tickets: dict[Ticket, None] = field(default_factory=dict)
    seconds: float = 0.0
    missing: int = 0
    begun: int = 0

    def waiting(self, queued: int) -> int:
        """Calls that nobody has begun. A rehearsal does not tell which those are, but how many."""
        return min(len(self.tickets) - self.begun, self.missing + queued)


class Dispatch:
    """The calls under way on all workers. To be asked by one thread at a time."""

    def __init__(self, workers: int) -> None:
        self.routes, self.homes = Routes(workers), Homes()
        self.stealing, self.work = Stealing(workers), CallWork()
        self._lines: list[dict[str, _Line]] = [{} for _ in range(workers)]
        self._missing = [0] * workers
        self._tasks: OrderedDict[Hashable, int] = OrderedDict()
        """Who has the beginnings of prompts of tasks that will ask (again)."""
        self._expected: dict[Hashable, Ticket] = {}

    # -- calls ---------------------------------------------------------------------------------

    def choose(self, ticket: Ticket, has: Sequence[bool]) -> int:
        """The worker of a call. `has`: by worker, whether its model is loaded. To be followed by
        `begins`."""
        placed = self.homes.of(ticket.model, ticket.node)
        expected = self._expected.get(ticket.task)
        if expected is not None:
            self.forget(expected)
        if ticket.taken is not None:
            thief, ticket.taken = ticket.taken, None
            if has[thief]:
                only = [worker == thief for worker in range(len(has))]
                return self.routes.choose(ticket.key, only, (thief,))
        if placed is not None:
            has = [there and self._welcome(w, placed) for w, there in enumerate(has)]
        return self.routes.choose(ticket.key, has, placed, self._tasks.get(ticket.task))

    def expects(self, ticket: Ticket, has: Sequence[bool]) -> int:
        """The worker on which the beginning of a prompt is to be computed before the call is there:
        the call will go there, unless that has become busy. To be followed by `choose` for its
        task or `forget`; until then it counts as a call there."""
        worker = ticket.worker = self.choose(ticket, has)
        self._note(ticket, worker)
        self._expected[ticket.task] = ticket
        self.routes.begins(worker)
        return worker

    def forget(self, ticket: Ticket) -> None:
        """The call that was expected as this has come, or will not. Nothing if it had come, or is
        expected anew since."""
        if self._expected.get(ticket.task) is ticket and ticket.worker is not None:
            del self._expected[ticket.task]
            self.routes.ends(ticket.worker)

    def begins(self, ticket: Ticket, worker: int) -> None:
        ticket.worker = worker
        if ticket.goes_on:
            self._note(ticket, worker)
        line = self._lines[worker].setdefault(ticket.model, _Line())
        line.tickets[ticket] = None
        line.seconds += ticket.seconds
        self.routes.begins(worker)

    def waits(self, ticket: Ticket, missing: bool) -> None:
        """A call begins to wait for its model to be loaded, or goes on."""
        assert ticket.worker is not None
        change = missing - ticket.missing
        ticket.missing = missing
        self._missing[ticket.worker] += change
        self._lines[ticket.worker][ticket.model].missing += change

    def begun(self, ticket: Ticket) -> None:
        """An engine computes a call: it stays where it is."""
        assert ticket.worker is not None
        self._lines[ticket.worker][ticket.model].begun += not ticket.begun
        ticket.begun = True

    def ends(self, ticket: Ticket, seconds: float | None = None) -> None:
        """A call has left its worker. `seconds`: of work that it was; None when it goes elsewhere,
        or came to nothing."""
        worker = ticket.worker
        assert worker is not None
        if ticket.missing:
            self.waits(ticket, False)
        line = self._lines[worker][ticket.model]
        del line.tickets[ticket]
        line.begun -= ticket.begun
        line.seconds -= ticket.seconds
        if not line.tickets:
            del self._lines[worker][ticket.model]
        self.routes.ends(worker)
        ticket.worker, ticket.begun = None, False
        if seconds is not None:
            self.work.ended(ticket.model, ticket.seconds, seconds)
            self.stealing.worked(worker, ticket.model, seconds)
        if not ticket.goes_on:
            self._tasks.pop(ticket.task, None)
        if ticket.taken is None:
            self.homes.answered(ticket.model, ticket.node)

    def idle(self, worker: int) -> bool:
        """Whether a worker has no calls at all."""
        return not self._lines[worker]

    # -- who idles -----------------------------------------------------------------------------

    def steal(self, worker: int, sites: Sequence[Site]) -> Steal | None:
        """What a worker that idles had better do for others, if anything. With a load, the model is
        to be loaded, and then asked again; else `taken` says which calls it gets."""
        ways = []
        for model in self.models():
            queue = self._queue(model, worker, sites)
            chance = self._chance(model, worker, sites[worker])
            if queue is not None and chance is not None:
                ways.append((queue, chance))
        return self.stealing.decide(ways)

    def taken(self, steal: Steal, sites: Sequence[Site]) -> list[Ticket]:
        """The calls that a thief gets: of those that wait, the ones whose turn would come last."""
        found: list[Ticket] = []
        for worker, lines in enumerate(self._lines):
            line = lines.get(steal.model)
            if line is None or worker == steal.worker:
                continue
            there = (t for t in reversed(line.tickets) if t.taken is None and not t.begun)
            last = sorted(there, key=lambda t: (not t.missing, t.priority))
            found += last[: line.waiting(sites[worker].queued.get(steal.model, 0))]
        found.sort(key=lambda t: (not t.missing, t.priority))
        for ticket in found[: steal.calls]:
            ticket.taken = steal.worker
        return found[: steal.calls]

    def models(self) -> list[str]:
        """Models that have calls."""
        return list(dict.fromkeys(model for lines in self._lines for model in lines))

    def missing(self) -> set[str]:
        """Models that calls wait for to be loaded."""
        waiting = (lines for w, lines in enumerate(self._lines) if self._missing[w])
        return {model for lines in waiting for model, line in lines.items() if line.missing}

    def takeable(self, worker: int, has: Sequence[str], most: int) -> list[Ticket]:
        """Calls that wait elsewhere for a model that this worker has: as many as its share has room
        for. They are taken."""
        room = max(0, min(most, self.routes.room(worker)))
        found = list(islice(self._elsewhere(worker, has), room))
        for ticket in found:
            ticket.taken = worker
        return found

    def _note(self, ticket: Ticket, worker: int) -> None:
        self._tasks[ticket.task] = worker
        self._tasks.move_to_end(ticket.task)
        if len(self._tasks) > REMEMBERED:
            self._tasks.popitem(last=False)

    def _elsewhere(self, worker: int, has: Sequence[str]) -> Iterator[Ticket]:
        for other, lines in enumerate(self._lines):
            if other == worker or not self._missing[other]:
                continue
            for model in has:
                line = lines.get(model)
                for ticket in line.tickets if line is not None and line.missing else ():
                    if ticket.missing and ticket.taken is None:
                        placed = self.homes.of(model, ticket.node)
                        if placed is None or self._welcome(worker, placed):
                            yield ticket

    def _welcome(self, worker: int, placed: frozenset[int]) -> bool:
        """Whether a worker that has a model takes calls of it: as a guest only while nobody that is
        at home there waits."""
        return worker in placed or not self._missing[worker]

    def _queue(self, model: str, thief: int, sites: Sequence[Site]) -> Queue | None:
        """The calls of a model that wait for workers other than this one."""
        calls, begun, seconds, ahead, workers = 0, 0, 0.0, 0.0, 0
        for worker, lines in enumerate(self._lines):
            line, site = lines.get(model), sites[worker]
            if worker == thief or (line is None and model not in site.coming):
                continue
            if line is None:
                ahead, workers = ahead + site.loads.get(model, 0.0), workers + 1
                continue
            waiting = line.waiting(site.queued.get(model, 0))
            each = self.work.ratio(model) * line.seconds / len(line.tickets)
            calls, begun = calls + waiting, begun + len(line.tickets) - waiting
            seconds, workers = seconds + waiting * each, workers + 1
            ahead += sum(self._left(m, other, site) for m, other in lines.items())
        return Queue(model, calls, seconds, ahead, workers, begun) if calls else None

    def _left(self, model: str, line: _Line, site: Site) -> float:
        """Seconds that a worker has to do for a model. Calls that have begun are half done."""
        waiting = line.waiting(site.queued.get(model, 0))
        share = (len(line.tickets) + waiting) / 2 / len(line.tickets)
        load = 0.0 if model in site.resident else site.loads.get(model, 0.0)
        return load + share * line.seconds * self.work.ratio(model)

    def _chance(self, model: str, worker: int, site: Site) -> Chance | None:
        """What it takes a worker to have a model; None when it never fits."""
        if model in site.resident:
            return Chance(worker)
        if not site.fits(frozenset({model})):
            return None
        loads, homes = site.loads, self.homes
        ways = [
            (sum(loads.get(m, 0.0) for m in out if homes.asked(m, worker)), out)
            for out in make_room(model, site.resident, site.fits)
        ]  # fmt: skip
        back, out = min(ways, key=lambda way: way[0])
        return Chance(worker, max(loads.get(model, 0.0), 1e-3), out, back)
