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
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...dag.ahead import Ahead
from ...dag.estimates import Estimates
from ...dag.logical import Plan
from ...dag.messages import Message, Prompt
from ...dag.placement import Stage
from ..dispatch import Dispatch
from ..generation import Generation
from ..ticket import Ticket
from ..watch import ON
from .backend import Call
from .idling import Idling
from .local import LocalBackend
from .placing import placement_for
from .sites import Sites
from .warm import Head, Kept

if TYPE_CHECKING:
    from ..llm.costs import Costs
    from ..llm.counters import Counters

log = logging.getLogger("plait")
PREFIX_CHARS = 256
"""Characters by which calls that begin alike are known."""


class Workers:
    """A backend made of backends that serve the same models."""

    def __init__(self, workers: Sequence[LocalBackend]) -> None:
        self.workers = tuple(workers)
        self._dispatch, self._sites = Dispatch(len(self.workers)), Sites(self.workers)
        self._under_way: dict[Ticket, asyncio.Future[list[Generation]]] = {}
        self._loading: dict[asyncio.Task[None], int] = {}
        self._idling = Idling(
            self.workers, self._dispatch, self._sites, self._move,
            lambda worker: worker in self._loading.values(),
        )  # fmt: skip

    async def generate(self, call: Call) -> list[Generation]:
        self.workers[0].check((call.model,))
        key = (call.model, call.salt, _beginning(call.prompt))
        ticket = Ticket(
            self._sites.name(call.model), call.node, key, (call.row, call.node),
            call.last is not None, self._sites.expected(call), call.priority,
        )  # fmt: skip
        while True:
            has = [worker.has(call.model) for worker in self.workers]
            generations = await self._run(call, ticket, self._dispatch.choose(ticket, has))
            if generations is not None:
                return generations

    async def _run(self, call: Call, ticket: Ticket, chosen: int) -> list[Generation] | None:
        """The call's generations by one worker; None when another has taken it over."""

        def waits(missing: bool) -> None:
            if ticket.worker == chosen:
                self._dispatch.waits(ticket, missing)
            if call.waits is not None:
                call.waits(missing)

        self._idling.at_home(chosen)
        if call.taken is not None:
            call.taken(chosen)
        ahead = self._dispatch.homes.view(call.ahead, chosen) if call.ahead is not None else None
        told = replace(call, waits=waits, ahead=ahead)
        work = asyncio.ensure_future(self.workers[chosen].generate(told))
        self._dispatch.begins(ticket, chosen)
        self._under_way[ticket] = work
        self._idling.stir()
        seconds = None
        try:
            done = await work
            ticket.taken, seconds = None, self._sites.found(call, done)
            return done
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if ticket.taken is None or (task is not None and task.cancelling()):
                ticket.taken = None
                work.cancel()
                raise
            return None
        finally:
            del self._under_way[ticket]
            self._dispatch.ends(ticket, seconds)
            self._take(chosen, 2)
            self._idling.stir()

    async def warm(self, head: Head) -> Kept | None:
        """On the worker to which the call will go. None also when too little of its prompt is known
        to say which that is."""
        key, other = map(_beginning, head.prompts)
        if key != other:
            return None
        name, path = self._sites.name(head.model), head.task[1] if head.task is not None else ""
        has = [worker.has(head.model) for worker in self.workers]
        ticket = Ticket(name, path, (head.model, head.salt, key), head.task)
        worker, kept = self._dispatch.expects(ticket, has), None
        try:
            kept = await self.workers[worker].warm(head)
        finally:
            if kept is None:
                self._dispatch.forget(head.task)
        return replace(kept, release=partial(self._release, head, kept)) if kept else None

    def _release(self, head: Head, kept: Kept) -> None:
        kept.release()
        self._dispatch.forget(head.task)

    # -- calls that wait elsewhere -------------------------------------------------------------

    def _take(self, worker: int, most: int) -> None:
        """Let a worker that has become freer take calls that wait elsewhere for their model: two
        for one that has ended, so that it soon has its share."""
        has = [m for m in self._dispatch.missing() if self.workers[worker].has(m)]
        self._move(self._dispatch.takeable(worker, has, most) if has else ())

    def _move(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self._under_way[ticket].cancel()

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
        plan = await asyncio.to_thread(self.placed, plan, known)
        if plan.placement is None:
            await self.workers[0].open(plan.models)
            return plan
        shelf = self.workers[0].shelf()
        names = {alias: shelf.name(alias) for alias in plan.models}
        self._dispatch.homes.follow(plan.placement, names, plan)
        await self._load(plan.placement.stages[0])
        return plan

    async def _load(self, stage: Stage) -> None:
        """Load what a stage begins with; waits until every model is there once, not for replicas:
        work goes on meanwhile."""
        needed: dict[str, asyncio.Task[None]] = {}
        for worker, models in enumerate(stage.models):
            for model in sorted(models):
                if not self.workers[worker].has(model):
                    task = asyncio.create_task(self._bring(worker, model))
                    self._loading[task] = worker
                    task.add_done_callback(self._brought)
                    if not any(other.has(model) for other in self.workers):
                        needed.setdefault(model, task)
        await asyncio.gather(*needed.values())

    async def _bring(self, worker: int, model: str) -> None:
        await self.workers[worker].open((model,))
        self._take(worker, len(self._under_way))

    def _brought(self, task: asyncio.Task[None]) -> None:
        self._loading.pop(task, None)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.debug("a model was not loaded where it was placed: %s", failure)

    @contextmanager
    def at_work(self, ahead: Ahead, step: str) -> Iterator[None]:
        """A tool is at work inside the block: what comes after it may go to any worker."""
        with ExitStack() as stack:
            for number, worker in enumerate(self.workers):
                stack.enter_context(worker.at_work(self._dispatch.homes.view(ahead, number), step))
            yield

    def counters(self) -> dict[str, Counters]:
        """What each loaded engine has done, by alias and worker."""
        return {
            f"{a}{ON}{w}": c for w, b in enumerate(self.workers) for a, c in b.counters().items()
        }

    def costs(self) -> dict[str, Costs]:
        """What computing costs, by alias: on the first worker that has the model."""
        return {a: c for b in reversed(self.workers) for a, c in b.costs().items()}

    def describe(self) -> dict[str, Any]:
        told = [worker.describe() for worker in self.workers]
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
