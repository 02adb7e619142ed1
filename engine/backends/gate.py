"""Where calls wait for their model: the policy of `dag/turns.py` with an event loop and threads.

A decision is taken when the event loop has come to rest: a call that has ended is often followed by
another of the same row a few rounds of the loop later, and a model must not go in between. Loading
happens in a thread. Calls may come from several event loops.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from ...dag.ahead import Ahead
from ...dag.errors import EngineError, PlaitError, as_fault
from ...dag.phases import Move
from ...dag.turns import Decision, Place, Turns, place_of
from .waiter import Waiter

if TYPE_CHECKING:
    from ..llm import LLM
    from ..llm.shelf import Shelf

log = logging.getLogger("plait")
QUIET_ROUNDS = 32
"""Rounds of the event loop without news after which it has come to rest."""
MOST_ROUNDS = 2_000
"""Rounds after which a decision is taken whatever happens."""
HEARTBEAT = 0.5
"""Seconds after which a loop with waiting calls looks again."""
Waits = Callable[[bool], None]


class Gate:
    """Lends the models of one shelf to calls, and has them loaded and unloaded."""

    def __init__(self, shelf: Shelf[LLM]) -> None:
        self._shelf = shelf
        self._turns = Turns(shelf.sizes(), shelf.limit, shelf.seconds(), shelf.names)
        self._lock = threading.RLock()
        self._waiters: list[Waiter] = []
        self._moving: Move | None = None
        self._resting: asyncio.AbstractEventLoop | None = None
        self._beating: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._rounds = self._quiet = 0
        self._pool = ThreadPoolExecutor(1, "plait-load")
        self.last = Decision(None, "nothing was asked yet")
        """What was decided last, and why."""

    @asynccontextmanager
    async def borrow(
        self, alias: str, step: str = "", ahead: Ahead | None = None, waits: Waits | None = None
    ) -> AsyncIterator[LLM]:
        """An engine that stays loaded inside the block. Raises ModelError when it cannot load."""
        model = self._shelf.name(alias)
        place = place_of(model, step, ahead)
        llm = self._enter(place, alias)
        if llm is None:
            llm = await self._wait(place, alias, waits)
        try:
            yield llm
        finally:
            self._leave(place, alias)

    @contextmanager
    def at_work(self, ahead: Ahead, step: str) -> Iterator[None]:
        """A tool is at work inside the block."""
        place = Place(step, None, ahead)
        with self._lock:
            self._turns.begins(place)
        try:
            yield
        finally:
            with self._lock:
                self._turns.ends(place, time.monotonic())
            self._stir()

    @property
    def moving(self) -> bool:
        """Whether a model is being loaded."""
        return self._moving is not None

    def close(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.fail(EngineError("the engine was closed"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- calls ---------------------------------------------------------------------------------

    def _enter(self, place: Place, alias: str) -> LLM | None:
        """The engine if it is there and stays."""
        with self._lock:
            if self._moving is not None and place.model in self._moving.unload:
                return None
            llm = self._shelf.take_loaded(alias)
            if llm is not None:
                self._turns.begins(place)
            return llm

    async def _wait(self, place: Place, alias: str, waits: Waits | None) -> LLM:
        waiter = Waiter(place, alias, asyncio.get_running_loop().create_future())
        self._shelf.check(alias)
        with self._lock:
            self._turns.waits(place)
            self._waiters.append(waiter)
            loop = waiter.future.get_loop()
            if loop not in self._beating:
                self._beating.add(loop)
                loop.call_later(HEARTBEAT, self._beat, loop)
        if waits is not None:
            waits(True)
        self._stir()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                    self._turns.goes_on(place)
            if waiter.has_result:
                self._leave(place, alias)
            self._stir()
            raise
        finally:
            if waits is not None:
                waits(False)

    def _leave(self, place: Place, alias: str) -> None:
        self._shelf.give(alias)
        with self._lock:
            self._turns.ends(place, time.monotonic())
        self._stir()

    def _admit(self) -> None:
        """Lend what is loaded now to those who wait for it."""
        with self._lock:
            left = []
            for waiter in self._waiters:
                llm = self._enter(waiter.place, waiter.alias)
                if llm is None:
                    left.append(waiter)
                    continue
                self._turns.goes_on(waiter.place)
                if not waiter.tell(self._hand(waiter, llm)):
                    self._leave(waiter.place, waiter.alias)
            self._waiters = left

    def _hand(self, waiter: Waiter, llm: LLM) -> Callable[[], None]:
        def give() -> None:
            if waiter.future.done():  # cancelled in the meantime
                self._leave(waiter.place, waiter.alias)
            else:
                waiter.future.set_result(llm)

        return give

    # -- decisions -----------------------------------------------------------------------------

    def _stir(self) -> None:
        """Something has changed: decide once the event loop has come to rest."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread: the heartbeat of those who wait will see it
            return
        with self._lock:
            if not self._waiters and (self._shelf.full or not self._turns.planned):
                return
            self._quiet = 0
            if self._resting is not None and not self._resting.is_closed():
                return
            self._resting, self._rounds = loop, 0
        loop.call_soon(self._round, loop)

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._quiet += 1
            self._rounds += 1
            if self._quiet < QUIET_ROUNDS and self._rounds < MOST_ROUNDS:
                loop.call_soon(self._round, loop)
                return
            self._resting = None
            self._decide(loop)

    def _decide(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._moving is not None:
            return
        self._turns.sizes, self._turns.seconds = self._shelf.sizes(), self._shelf.seconds()
        resident = frozenset(self._shelf.name(alias) for alias in self._shelf.loaded)
        self.last = self._turns.decide(resident, time.monotonic())
        if self.last.move is not None:
            self._moving = self.last.move
            self._pool.submit(self._move, self.last.move, loop)
        elif self.last.wait is not None:
            loop.call_later(self.last.wait, self._stir)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again from every loop that has calls waiting: another one may end with its news."""
        with self._lock:
            if all(waiter.future.get_loop() is not loop for waiter in self._waiters):
                self._beating.discard(loop)
                return
        loop.call_later(HEARTBEAT, self._beat, loop)
        self._stir()

    def _move(self, move: Move, loop: asyncio.AbstractEventLoop) -> None:
        """Load a model, in the thread for loading."""
        failure: PlaitError | None = None
        try:
            for model in move.unload:
                self._shelf.unload(model)
            with self._shelf.borrow(move.load):
                pass
        except BaseException as error:  # of another kind it would end the loop of who waits
            failure = as_fault(error)
            if failure is not error:
                log.exception("a model could not be loaded")
        with self._lock:
            self._moving = None
            if failure is not None:
                self._refuse(move.load, failure)
            self._admit()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._stir)

    def _refuse(self, model: str, failure: PlaitError) -> None:
        """Fail those who wait for a model that cannot be loaded."""
        failed = [waiter for waiter in self._waiters if waiter.place.model == model]
        self._waiters = [waiter for waiter in self._waiters if waiter.place.model != model]
        for waiter in failed:
            self._turns.goes_on(waiter.place)
            waiter.fail(failure)
