"""Several devices: a local backend on each, and calls divided between them.

Where a plan says which models stand on which workers, they are loaded there, and its calls go there
or to who has the model anyway; else every worker serves every model and loads it when calls come to
it. Each takes turns under its own memory limit; see `engine/routing.py` for who takes which call. A
call that waits on one worker for its model goes to another that has the model as soon as that has
less than its share to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...dag.ahead import Ahead
from ...dag.estimates import Estimates
from ...dag.logical import Plan
from ...dag.messages import Message
from ...dag.placement import Stage
from ..generation import Generation
from ..routing import Routes
from ..watch import ON
from .backend import Call
from .homes import Homes
from .local import LocalBackend
from .placing import placement_for

if TYPE_CHECKING:
    from ..llm.costs import Costs
    from ..llm.counters import Counters

log = logging.getLogger("plait")
PREFIX_CHARS = 256
"""Characters by which calls that begin alike are known."""


class _Waiting:
    """Whether a call waits for its model, and whether another worker has taken it over."""

    def __init__(self, call: Call) -> None:
        self.call, self.now, self.taken = call, False, False

    def note(self, waits: bool) -> None:
        self.now = waits
        if self.call.waits is not None:
            self.call.waits(waits)


class Workers:
    """A backend made of backends that serve the same models."""

    def __init__(self, workers: Sequence[LocalBackend]) -> None:
        self.workers = tuple(workers)
        self._routes = Routes(len(self.workers))
        self._homes = Homes()
        self._waiting: dict[_Waiting, asyncio.Future[list[Generation]]] = {}
        self._loading: set[asyncio.Task[None]] = set()

    async def generate(self, call: Call) -> list[Generation]:
        while True:
            there = [worker.has(call.model) for worker in self.workers]
            placed = self._homes.of(call.model, call.node)
            chosen = self._routes.choose((call.model, _beginning(call)), there, placed)
            generations = await self._run(call, chosen)
            if generations is not None:
                return generations

    async def _run(self, call: Call, chosen: int) -> list[Generation] | None:
        """The call's generations by one worker; None when another had better do it."""
        waits = _Waiting(call)
        ahead = self._homes.view(call.ahead, chosen) if call.ahead is not None else None
        told = replace(call, waits=waits.note, ahead=ahead)
        work = asyncio.ensure_future(self.workers[chosen].generate(told))
        self._routes.begins(chosen)
        self._waiting[waits] = work
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not waits.taken or (task is not None and task.cancelling()):
                work.cancel()
                raise
            return None
        finally:
            del self._waiting[waits]
            self._routes.ends(chosen)
            self._take(chosen, 2)

    def _take(self, worker: int, most: int) -> None:
        """Let a worker that has become freer take calls that wait elsewhere for their model: two
        for one that has ended, so that it soon has its share."""
        has = self.workers[worker].has
        found = (w for w in self._waiting if w.now and not w.taken and has(w.call.model))
        for waits in list(islice(found, max(0, min(most, self._routes.room(worker))))):
            waits.taken = True
            self._waiting[waits].cancel()

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
        self._homes.follow(plan.placement, {alias: shelf.name(alias) for alias in plan.models})
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
                    self._loading.add(task)
                    task.add_done_callback(self._brought)
                    if not any(other.has(model) for other in self.workers):
                        needed.setdefault(model, task)
        await asyncio.gather(*needed.values())

    async def _bring(self, worker: int, model: str) -> None:
        await self.workers[worker].open((model,))
        self._take(worker, len(self._waiting))

    def _brought(self, task: asyncio.Task[None]) -> None:
        self._loading.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.debug("a model was not loaded where it was placed: %s", failure)

    @contextmanager
    def at_work(self, ahead: Ahead, step: str) -> Iterator[None]:
        """A tool is at work inside the block: what comes after it may go to any worker."""
        with ExitStack() as stack:
            for number, worker in enumerate(self.workers):
                stack.enter_context(worker.at_work(self._homes.view(ahead, number), step))
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
        return {"backend": "local", "models": told[0]["models"], "workers": told}

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def _beginning(call: Call) -> object:
    """What calls that share a long prefix have in common at least."""
    prompt = call.prompt
    if isinstance(prompt, str):
        return prompt[:PREFIX_CHARS]
    first = prompt[0] if prompt else ""
    return first.content[:PREFIX_CHARS] if isinstance(first, Message) else tuple(prompt[:64])
