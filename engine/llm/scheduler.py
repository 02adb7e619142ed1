"""Which requests run in the next step, how many of their tokens, and who makes room.

Plain Python without torch and without a clock, so that the simulator drives the same object.
Each step mixes the newest token of every running request with as much prefill as fits the budget:
nobody's prompt, however long or urgent, holds up those who decode.

- Order: priority, then arrival. A priority of 1 counts like an arrival `AGEING` seconds earlier,
  so whoever waits moves up at the same pace as everybody else and nobody waits for ever.
- Admission takes the pages a request is expected to need, side by side. Among the next in order
  those with the longest cached prefix go first, so that memory is used by those who share it; a
  request is passed over a bounded number of times. One whose prefix somebody is computing waits.
- Preemption ends the turn of the request that is last in order. Its KV stays in the tree, and what
  of it has to go moves to the host or is dropped, whichever is cheaper by the measured costs; back
  in its turn, the request restores the one or computes the other, and keeps what did not have to.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass

from ...cache.radix import RadixTree
from ...dag.errors import ConfigError
from .costs import Costs, WayOut
from .holdings import Holdings, KVMover
from .queue import Queue, order
from .request import Chunk, Request


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step and the pool may hold."""

    batch_tokens: int
    running: int
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        if self.batch_tokens < 1 or self.running < 1:
            raise ConfigError(
                f"max_batch_tokens={self.batch_tokens} and max_running={self.running} must be at "
                "least 1: nobody would ever be served"
            )


@dataclass(frozen=True, slots=True)
class Preemption:
    """A running request that had to give way."""

    request: int
    pages: int
    """Pages of its own that it gave back or left in the tree."""
    tokens: int
    """Tokens it had computed."""
    free: int
    """Free pages when that happened."""
    running: int
    way: WayOut

    def __str__(self) -> str:
        return (
            f"request {self.request} gave way with {self.tokens} tokens computed and {self.pages} "
            f"pages of its own: {self.free} pages were free for {self.running} running requests; "
            f"{self.way}"
        )


class CannotFit(Exception):
    """A request is alone and still has no room."""

    def __init__(self, request: Request, needed: int, room: int) -> None:
        super().__init__(
            f"request {request.number} needs KV memory for {needed:,} tokens and there is room for "
            f"{room:,}: lower max_tokens, shorten the prompt, or give more kv_memory"
        )
        self.request = request


class Scheduler:
    """Waiting and running requests, and the rules that move them."""

    def __init__(
        self,
        tree: RadixTree,
        limits: Limits,
        mover: KVMover,
        costs: Costs | None = None,
    ) -> None:
        self.tree = tree
        self.page_size = tree.page_size
        self.limits = limits
        self.holdings = Holdings(tree, mover, costs or Costs(), limits.prefix_cache)
        self.running: list[Request] = []
        """In order."""
        self.preemptions = 0
        self.preempted_to_host = 0
        self._queue = Queue(tree, limits.prefix_cache)
        self._stuck: tuple[int, int] | None = None
        """State in which nobody could be admitted: no use in trying again before it changes."""

    # ---- from outside ----------------------------------------------------------------------

    def add(self, request: Request) -> None:
        self._queue.add(request)
        self._stuck = None

    def remove(self, request: Request, now: float, keep: bool = True) -> None:
        """End a request, wherever it stands; its KV stays cached unless it is not to be kept."""
        if request.node is not None:
            self.running.remove(request)
            self.holdings.give_up(request, now, keep)
        else:
            self._queue.remove(request)

    @property
    def changes(self) -> int:
        """Grows whenever somebody begins, ends, or has KV moved: plans from before are stale."""
        return self.holdings.changes

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def requests(self) -> Iterator[Request]:
        """Everyone, running or waiting."""
        yield from self.running
        yield from self._queue

    # ---- one step --------------------------------------------------------------------------

    def schedule(self, now: float) -> list[Chunk]:
        """The chunks of the next step, in order. Empty only when nobody is left."""
        budget = self.limits.batch_tokens
        chunks: list[Chunk] = []
        running = self.running[:budget]
        decoding = sum(not r.prefilling for r in running)  # a token is kept for each
        for request in running:
            if request.node is None:  # preempted by one before it
                continue
            computed = request.computed
            left = len(request.tokens) - computed
            if left == 1:
                decoding -= 1
            count = min(left, budget - decoding)
            if count == 0:
                continue
            end = computed + count
            if end > request.reach and not self._make_room(request, end, now):
                continue
            chunks.append(Chunk(request, computed, count))
            budget -= count
            if budget == 0:
                break
        room = budget > 0 and len(self.running) < self.limits.running
        if room and self._queue and self._stuck != (self.changes, budget):
            self._admit(chunks, budget, now)
            chunks.sort(key=lambda chunk: order(chunk.request))  # as they come in the next step
        return chunks

    def commit(self, chunks: list[Chunk], now: float) -> None:
        """The step has run: count its tokens and put whole prompt pages into the tree."""
        for chunk in chunks:
            request = chunk.request
            end = request.computed = chunk.start + chunk.count
            if chunk.count > 1 or end <= len(request.prompt):
                self.holdings.share(request, end - end % self.page_size, now)

    def _admit(self, chunks: list[Chunk], budget: int, now: float) -> None:
        queue = self._queue
        flight = {key for r in self.running if (key := queue.next_page(r)) is not None}
        queue.unpark(flight)
        for request in queue.candidates(self.limits.running):
            if budget <= 0 or len(self.running) >= self.limits.running:
                return
            if queue.park(request, flight):
                continue
            if not self.holdings.place(request, now, self.running):
                if not self.running:
                    raise CannotFit(request, len(request.tokens), self._room)
                self._stuck = (self.changes, budget)
                return
            queue.start(request)
            if request.on_begin is not None:
                request.on_begin()
            insort(self.running, request, key=order)
            count = min(request.left, budget)
            chunks.append(Chunk(request, request.computed, count))
            budget -= count
            if (mine := queue.next_page(request)) is not None:
                flight.add(mine)

    @property
    def _room(self) -> int:
        """Tokens for which pages could be had now."""
        return (self.tree.allocator.free + self.tree.cached_pages) * self.page_size

    # ---- giving way ------------------------------------------------------------------------

    def _make_room(self, request: Request, end: int, now: float) -> bool:
        """Pages up to position `end`; False when the request itself had to give way."""
        while not self.holdings.grow(request, end, now):
            victim = self.running[-1]
            if len(self.running) == 1:
                raise CannotFit(request, end, request.reach + self._room)
            self._preempt(victim, now)
            if victim is request:
                return False
        return True

    def _preempt(self, request: Request, now: float) -> None:
        pages, free = len(request.pages), self.tree.allocator.free
        way = self.holdings.leave(request, now)
        self.preemptions += 1
        self.preempted_to_host += way.to_host
        self.holdings.log.append(
            Preemption(request.number, pages, request.computed, free, len(self.running), way)
        )
        request.preemptions += 1
        self.running.remove(request)
        self.holdings.give_up(request, now)
        self.add(request)
