"""Single flight: equal work that comes up at the same time, or again later, is done once.

Some tasks turn out to be equal only when values arrive. Whoever asks first starts the work, in a
task of its own; who asks for the same while it runs waits for it, and who asks later gets the kept
result. So:

- a waiter that is cancelled leaves, and the work goes on for the others; the last one to leave
  cancels it;
- a failure goes to all who wait, each getting its own copy, and is not kept: who asks later tries
  again;
- what is kept is bounded in bytes, the result that was asked for longest ago goes first;
- but results that others are sure to ask for stay until they are dropped, and no others take their
  room. Of more than that bound allows, those that come then are kept like the rest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from copy import copy, deepcopy
from typing import Any, NamedTuple

from pydantic import BaseModel

from ..dag.errors import RowError
from .generation import Generation

KEPT_BYTES = 64 << 20
"""Most bytes of results kept for those who may ask later."""
WANTED_BYTES = 256 << 20
"""Most bytes of results kept for those who are sure to."""

Work = Callable[[], Coroutine[Any, Any, Any]]


class Joined(NamedTuple):
    """What an asker gets."""

    value: Any
    own: bool
    """Whether it was this asker's call that did the work."""


class _Flight:
    """Work under way, and who waits for it."""

    __slots__ = ("name", "task", "waiters")

    def __init__(self, name: str, task: asyncio.Task[Any]) -> None:
        self.name, self.task = name, task
        self.waiters: dict[asyncio.Future[Any], str] = {}


class SingleFlight:
    """Work under way and results kept, by key. Belongs to one event loop."""

    def __init__(self, limit: int = KEPT_BYTES, most_wanted: int = WANTED_BYTES) -> None:
        self.limit, self.most_wanted = limit, most_wanted
        self.kept_bytes = self.wanted_bytes = 0
        self._flights: dict[Hashable, _Flight] = {}
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._wanted: dict[Hashable, tuple[Any, int]] = {}

    async def join(
        self, key: Hashable, name: str, work: Work, keep: bool = True, wanted: bool = False
    ) -> Joined:
        """The value of `work()`, run once for all who ask under this key.

        `name` is what the asker calls the work: errors that name the first asker's node come back
        with the asker's own. `wanted`: others are sure to ask, until who knows that says `drop`.
        """
        kept = self._wanted.get(key) or self._kept.get(key)
        if kept is not None:
            if key in self._kept:
                self._kept.move_to_end(key)
            return Joined(kept[0], False)
        flight = self._flights.get(key)
        own = flight is None
        if flight is None:
            flight = self._start(key, name, work, keep, wanted)
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        flight.waiters[waiter] = name
        try:
            return Joined(await waiter, own)
        except asyncio.CancelledError:
            self._leave(key, flight, waiter)
            raise

    async def copy(
        self, key: Hashable, name: str, work: Work, keep: bool = True, wanted: bool = False
    ) -> Joined:
        """The same, with a value that the asker may change. One that cannot be copied is not
        shared: whoever did not do the work does it, too."""
        value, own = await self.join(key, name, work, keep, wanted)
        try:
            return Joined(fresh(value), own)
        except Exception:  # of the value's own class, or it is nested too deeply
            return Joined(value if own else await work(), True)

    def under_way(self, key: Hashable) -> bool:
        """Whether whoever asks now waits for another's work."""
        return key in self._flights

    def has(self, key: Hashable) -> bool:
        """Whether a result is kept under this key."""
        return key in self._wanted or key in self._kept

    def drop(self, key: Hashable) -> None:
        """Forget a kept result: nobody will ask for it again."""
        self.wanted_bytes -= self._wanted.pop(key, (None, 0))[1]
        self.kept_bytes -= self._kept.pop(key, (None, 0))[1]

    async def close(self) -> None:
        """Cancel what is under way and forget everything."""
        tasks = [flight.task for flight in self._flights.values()]
        self._flights.clear()
        self._kept.clear()
        self._wanted.clear()
        self.kept_bytes = self.wanted_bytes = 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- inside --------------------------------------------------------------------------------

    def _start(self, key: Hashable, name: str, work: Work, keep: bool, wanted: bool) -> _Flight:
        task = asyncio.get_running_loop().create_task(work())
        flight = self._flights[key] = _Flight(name, task)
        task.add_done_callback(lambda task: self._land(key, flight, keep, wanted))
        return flight

    def _leave(self, key: Hashable, flight: _Flight, waiter: asyncio.Future[Any]) -> None:
        flight.waiters.pop(waiter, None)
        if not flight.waiters and not flight.task.done():
            # Whoever asks from now on must not join work that is being cancelled.
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.task.cancel()

    def _land(self, key: Hashable, flight: _Flight, keep: bool, wanted: bool) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.cancelled():
            for waiter in flight.waiters:
                waiter.cancel()
            return
        error = flight.task.exception()
        for waiter, name in flight.waiters.items():
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(flight.task.result())
            else:
                waiter.set_exception(_own_copy(error, flight.name, name))
        if error is None and keep:
            self._keep(key, flight.task.result(), wanted)

    def _keep(self, key: Hashable, value: Any, wanted: bool) -> None:
        self.drop(key)  # of work that did not end when it was cancelled
        size = size_of(value)
        if wanted and self.wanted_bytes + size <= self.most_wanted:
            self._wanted[key] = (value, size)
            self.wanted_bytes += size
            return
        if size > self.limit:
            return
        self._kept[key] = (value, size)
        self.kept_bytes += size
        while self.kept_bytes > self.limit:
            _, (_, gone) = self._kept.popitem(last=False)
            self.kept_bytes -= gone


def _own_copy(error: BaseException, leader: str, name: str) -> BaseException:
    """The error for one waiter: an object of its own, as rows write their node into it."""
    try:
        twin = copy(error)
    except Exception:
        return error
    twin.__cause__ = error.__cause__
    if isinstance(twin, RowError) and twin.node is not None and twin.node.startswith(leader):
        twin.node = name + twin.node[len(leader) :]
    return twin


def fresh(value: Any) -> Any:
    """A copy the receiver may change; what cannot be changed is handed on as it is."""
    kind = type(value)
    if kind in (str, int, float, bool, type(None), bytes):
        return value
    if kind is list:
        return [fresh(v) for v in value]
    if kind is dict:
        return {k: fresh(v) for k, v in value.items()}
    if isinstance(value, BaseModel):
        return value.model_copy(deep=True)
    return deepcopy(value)


def size_of(value: Any, depth: int = 0) -> int:
    """About how many bytes a value holds."""
    if isinstance(value, str | bytes):
        return 56 + len(value)
    if isinstance(value, Generation):
        logprobs = sum(96 + 64 * len(p.top) for p in value.logprobs or ())
        return 256 + len(value.text) + 36 * len(value.token_ids) + logprobs
    if depth > 64:
        return 64
    # No code of their own runs: what iterating over a value gives, its class may say.
    if isinstance(value, list | tuple):
        items = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
        return 64 + sum(8 + size_of(v, depth + 1) for v in items)
    if isinstance(value, dict):
        pairs = dict.items(value)
        return 64 + sum(size_of(k, depth + 1) + size_of(v, depth + 1) for k, v in pairs)
    if isinstance(value, BaseModel):
        return 128 + size_of(vars(value), depth + 1) + size_of(value.__pydantic_extra__, depth + 1)
    return 64
