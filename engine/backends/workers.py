"""Several devices: a local backend on each, and calls divided between them.

Where a plan says which models stand on which workers, they are loaded there, and its calls go there
or to who has the model anyway; else every worker serves every model and loads it when calls come to
it. Each takes turns under its own memory limit. Who takes which call, and when a worker that idles
takes calls over or loads a model for them, is decided by `engine/dispatch.py`. A call that waits on
one worker for its model goes to another that has the model as soon as that has less than its share
to do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...dag.ahead import Ahead
from ...dag.estimates import Estimates
from ...dag.logical import Plan
from ...dag.messages import Message, Prompt
from ..bridge import cancel
from ..dispatch import Dispatch
from ..generation import Generation
from ..ticket import Ticket
from ..watch import ON, Loading
from .arrivals import Arrivals
from .backend import Call
from .idling import Idling
from .local import LocalBackend
from .placing import placement_for
from .sites import Sites
from .warm import Head, Kept

if TYPE_CHECKING:
    from ..llm.costs import Costs
    from ..llm.counters import Counters

PREFIX_CHARS = 256
"""Characters by which calls that begin alike are known."""


class Workers:
    """A backend made of backends that serve the same models."""

    def __init__(self, workers: Sequence[LocalBackend]) -> None:
        self.workers = tuple(workers)
        self._dispatch, self._sites = Dispatch(len(self.workers)), Sites(self.workers)
        self._under_way: dict[Ticket, asyncio.Future[list[Generation]]] = {}
        self._lock = threading.RLock()
        """Held while the above are asked and changed: calls may come from several event loops."""
        self._arrivals = Arrivals(
            self.workers, self._lock, lambda worker: self._take(worker, len(self._under_way))
        )
        self._idling = Idling(
            self.workers, self._dispatch, self._sites, self._lock, self._move,
            self._arrivals.awaited,
        )  # fmt: skip

    async def generate(self, call: Call) -> list[Generation]:
        self.workers[0].check((call.model,))
        key = (call.model, call.salt, _beginning(call.prompt))
        with self._lock:
            expected = self._sites.expected(call)
        ticket = Ticket(
            self._sites.name(call.model), call.node, key, (call.row, call.node),
            call.last is not None, expected, call.priority,
        )  # fmt: skip
        while True:
            generations = await self._run(call, ticket)
            if generations is not None:
                return generations

    async def _run(self, call: Call, ticket: Ticket) -> list[Generation] | None:
        """The call's generations by one worker; None when another has taken it over."""
        chosen, work = self._begin(call, ticket)
        self._idling.stir()
        done, moved = None, False
        try:
            done = await work
            return done
        except asyncio.CancelledError:
            task = asyncio.current_task()
            moved = ticket.taken is not None and not (task is not None and task.cancelling())
            if moved:
                return None
            work.cancel()
            raise
        finally:
            with self._lock:
                del self._under_way[ticket]
                if not moved:
                    ticket.taken = None
                seconds = self._sites.found(call, done) if done is not None else None
                self._dispatch.ends(ticket, seconds)
            self._take(chosen, 2)
            self._idling.stir()

    def _begin(self, call: Call, ticket: Ticket) -> tuple[int, asyncio.Task[list[Generation]]]:
        """Give a call to a worker: which, and its work."""

        def waits(missing: bool) -> None:
            with self._lock:
                if ticket.worker == chosen:
                    self._dispatch.waits(ticket, missing)
            if call.waits is not None:
                call.waits(missing)

        def begun() -> None:
            with self._lock:
                if ticket.worker == chosen:
                    self._dispatch.begun(ticket)
            if call.begun is not None:
                call.begun()

        has = [worker.has(call.model) for worker in self.workers]
        with self._lock:
            chosen = self._dispatch.choose(ticket, has)
            self._idling.at_home(chosen)
            view, ahead = self._dispatch.homes.view, call.ahead
            mine = None if ahead is None else view(ahead, chosen)
            told = replace(call, waits=waits, begun=begun, ahead=mine)
            if call.taken is not None:
                call.taken(chosen)
            work = asyncio.ensure_future(self.workers[chosen].generate(told))
            self._dispatch.begins(ticket, chosen)
            self._under_way[ticket] = work
        return chosen, work

    async def warm(self, head: Head) -> Kept | None:
        """On the worker to which the call will go. None also when too little of its prompt is known
        to say which that is."""
        key, other = map(_beginning, head.prompts)
        if key != other:
            return None
        name, path = self._sites.name(head.model), head.task[1] if head.task is not None else ""
        has = [worker.has(head.model) for worker in self.workers]
        ticket = Ticket(name, path, (head.model, head.salt, key), head.task)
        with self._lock:
            worker, kept = self._dispatch.expects(ticket, has), None
        try:
            kept = await self.workers[worker].warm(head)
        finally:
            if kept is None:
                self._forget(ticket)
        return replace(kept, release=partial(self._release, ticket, kept)) if kept else None

    def _release(self, ticket: Ticket, kept: Kept) -> None:
        kept.release()
        self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        with self._lock:
            self._dispatch.forget(ticket)

    # -- calls that wait elsewhere -------------------------------------------------------------

    def _take(self, worker: int, most: int) -> None:
        """Let a worker that has become freer take calls that wait elsewhere for their model: two
        for one that has ended, so that it soon has its share."""
        with self._lock:
            has = [m for m in sorted(self._dispatch.missing()) if self.workers[worker].has(m)]
            self._move(self._dispatch.takeable(worker, has, most) if has else ())

    def _move(self, tickets: Iterable[Ticket]) -> None:
        with self._lock:
            for ticket in tickets:
                cancel(self._under_way[ticket])

    # -- models --------------------------------------------------------------------------------

    async def open(self, models: tuple[str, ...]) -> None:
        """The first worker loads the first of them, unless somebody has one; the others load where
        they are placed, or asked for."""
        self.workers[0].check(models)
        if not any(worker.has(model) for worker in self.workers for model in models):
            await self.workers[0].open(models[:1])

    def placed(self, plan: Plan, known: Estimates | None = None) -> Plan:
        return replace(plan, placement=placement_for(plan, self.workers, known))

    async def arrange(self, plan: Plan, known: Estimates | None = None) -> Plan:
        if plan.placement is None:
            plan = await asyncio.to_thread(self.placed, plan, known)
        if plan.placement is None:
            await self.workers[0].open(plan.models)
            return plan
        shelf = self.workers[0].shelf()
        names = {alias: shelf.name(alias) for alias in plan.models}
        with self._lock:
            self._dispatch.homes.follow(plan.placement, names, plan)
        try:
            await self._arrivals.load(plan.placement.stages[0])
        except BaseException:
            self.ended(plan)
            raise
        return plan

    def ended(self, plan: Plan) -> None:
        if plan.placement is not None:
            with self._lock:
                self._dispatch.homes.ended(plan.placement)

    @contextmanager
    def at_work(self, ahead: Ahead, step: str) -> Iterator[None]:
        """A tool is at work inside the block: what comes after it may go to any worker."""
        with ExitStack() as stack:
            for number, worker in enumerate(self.workers):
                with self._lock:
                    mine = self._dispatch.homes.view(ahead, number)
                stack.enter_context(worker.at_work(mine, step))
            yield

    @property
    def aliases(self) -> Mapping[str, str]:
        return self.workers[0].aliases

    def characters(self, model: str, sample: str) -> float | None:
        found = (worker.characters(model, sample) for worker in self.workers)
        return next((each for each in found if each is not None), None)

    def counters(self) -> dict[str, Counters]:
        """What each loaded engine has done, by alias and worker."""
        return {
            f"{a}{ON}{w}": c for w, b in enumerate(self.workers) for a, c in b.counters().items()
        }

    def costs(self) -> dict[str, Costs]:
        """What computing costs, by alias: on the first worker that has the model."""
        return {a: c for b in reversed(self.workers) for a, c in b.costs().items()}

    def loads(self) -> list[Loading]:
        """When models were loaded, by alias and worker."""
        return [
            replace(load, model=f"{load.model}{ON}{number}")
            for number, worker in enumerate(self.workers) for load in worker.loads()
        ]  # fmt: skip

    def describe(self) -> dict[str, Any]:
        told = [worker.describe() for worker in self.workers]
        with self._lock:
            stolen = [steal.as_dict() for steal in self._dispatch.stealing.log]
            left = self._dispatch.stealing.left
        return {
            "backend": "local", "models": told[0]["models"], "workers": told, "stolen": stolen,
            "left": left.as_dict() if left is not None else None,
        }  # fmt: skip

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def _beginning(prompt: Prompt | list[int]) -> object:
    """What calls that share a long prefix have in common at least."""
    if isinstance(prompt, str):
        return prompt[:PREFIX_CHARS]
    first = prompt[0] if prompt else ""
    return first.content[:PREFIX_CHARS] if isinstance(first, Message) else tuple(prompt[:64])
