"""Several devices: a local backend on each, and calls divided between them.

Every worker serves every model, loads it when calls come to it, and takes turns under its own
memory limit; see `engine/routing.py` for who takes which call. A call that waits on one worker for
its model goes to another that has the model as soon as that has less than its share to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...dag.ahead import Ahead
from ...dag.messages import Message
from ..generation import Generation
from ..routing import Routes
from .backend import Call
from .local import LocalBackend

if TYPE_CHECKING:
    from ..llm.costs import Costs
    from ..llm.counters import Counters

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
        self._waiting: dict[_Waiting, asyncio.Future[list[Generation]]] = {}

    async def generate(self, call: Call) -> list[Generation]:
        while True:
            there = [worker.has(call.model) for worker in self.workers]
            chosen = self._routes.choose((call.model, _beginning(call)), there)
            generations = await self._run(call, chosen)
            if generations is not None:
                return generations

    async def _run(self, call: Call, chosen: int) -> list[Generation] | None:
        """The call's generations by one worker; None when another had better do it."""
        waits = _Waiting(call)
        work = asyncio.ensure_future(self.workers[chosen].generate(replace(call, waits=waits.note)))
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
            self._take(chosen)

    def _take(self, worker: int) -> None:
        """Let a worker that has become freer take calls that wait elsewhere for their model: two
        for the one that has ended, so that it soon has its share."""
        if not self._routes.has_room(worker):
            return
        has = self.workers[worker].has
        found = (w for w in self._waiting if w.now and not w.taken and has(w.call.model))
        for waits in list(islice(found, 2)):
            waits.taken = True
            self._waiting[waits].cancel()

    async def open(self, models: tuple[str, ...]) -> None:
        """The first worker shows whether they load; the others load what they are asked for."""
        await self.workers[0].open(models)

    @contextmanager
    def at_work(self, ahead: Ahead, step: str) -> Iterator[None]:
        """A tool is at work inside the block: what comes after it may go to any worker."""
        with ExitStack() as stack:
            for worker in self.workers:
                stack.enter_context(worker.at_work(ahead, step))
            yield

    def counters(self) -> dict[str, Counters]:
        """What each loaded engine has done, by alias and worker."""
        return {
            f"{a} on {w}": c for w, b in enumerate(self.workers) for a, c in b.counters().items()
        }

    def costs(self) -> dict[str, Costs]:
        return {f"{a} on {w}": c for w, b in enumerate(self.workers) for a, c in b.costs().items()}

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
