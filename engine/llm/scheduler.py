"""Which requests run in the next step, how many of their tokens, and who makes room.

Plain Python without torch and without a clock, so that the simulator drives the same object.
Each step mixes the newest token of every running request with as much prefill as fits the budget.

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
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ...cache.node import Eviction, Node
from ...cache.radix import RadixTree
from .costs import Costs, WayOut
from .request import Chunk, Request

AGEING = 10.0
"""Seconds of waiting that one unit of priority is worth."""

PageKey = tuple[int, tuple[int, ...]]
"""(node, tokens of the next page): a page that somebody may be computing now."""


LOOK_AHEAD = 64
"""Waiting requests among which those with a cached prefix go first."""
PATIENCE = 128
"""How often a request may be passed over by such."""
LOG = 256
"""Evictions and preemptions remembered for `explain`."""


class KVMover(Protocol):
    """Moves KV between pages; the pool on a device, nothing in the simulator."""

    def copy(self, source: int, target: int, slots: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step and the pool may hold."""

    batch_tokens: int
    running: int
    prefix_cache: bool = True


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

    def __init__(self, request: Request) -> None:
        super().__init__(f"request {request.number} does not fit the KV memory")
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
        self.allocator = tree.allocator
        self.page_size = tree.page_size
        self.limits = limits
        self.mover = mover
        self.running: list[Request] = []
        """In order."""
        self.changes = 0
        """Grows whenever somebody begins, ends, or has KV moved: plans from before are stale."""
        self.costs = costs or Costs()
        """What moving and computing KV takes; replaced when it has been measured."""
        self.log: deque[Preemption | Eviction] = deque(maxlen=LOG)
        self.preemptions = 0
        self.preempted_to_host = 0
        self.evicted_tokens = 0
        self._waiting: list[Request] = []
        self._stuck: tuple[int, int] | None = None
        """State in which nobody could be admitted: no use in trying again before it changes."""
        self._parked: dict[PageKey, list[Request]] = {}

    # ---- from outside ----------------------------------------------------------------------

    def add(self, request: Request) -> None:
        insort(self._waiting, request, key=order)
        self._stuck = None

    def remove(self, request: Request, now: float, keep: bool = True) -> None:
        """End a request, wherever it stands; its KV stays cached unless it is not to be kept."""
        if request.node is not None:
            self.running.remove(request)
            self._give_up(request, now, keep)
            return
        if request in self._waiting:
            self._waiting.remove(request)
        for parked in self._parked.values():
            if request in parked:
                parked.remove(request)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + sum(map(len, self._parked.values()))

    def requests(self) -> Iterator[Request]:
        """Everyone, running or waiting."""
        yield from self.running
        yield from self._waiting
        for parked in self._parked.values():
            yield from parked

    # ---- one step --------------------------------------------------------------------------

    def schedule(self, now: float) -> list[Chunk]:
        """The chunks of the next step, in order. Empty only when nobody is left."""
        budget = self.limits.batch_tokens
        chunks: list[Chunk] = []
        for request in self.running[:budget]:
            if request.node is None:  # preempted by one before it
                continue
            computed = request.computed
            count = min(len(request.tokens) - computed, budget)
            end = computed + count
            if end > request.reach and not self._make_room(request, end, now):
                continue
            chunks.append(Chunk(request, computed, count))
            budget -= count
            if budget == 0:
                break
        if (self._waiting or self._parked) and self._stuck != (self.changes, budget):
            self._admit(chunks, budget, now)
            chunks.sort(key=lambda chunk: order(chunk.request))  # as they come in the next step
        return chunks

    def commit(self, chunks: list[Chunk], now: float) -> None:
        """The step has run: count its tokens and put whole prompt pages into the tree."""
        for chunk in chunks:
            request = chunk.request
            end = request.computed = chunk.start + chunk.count
            if chunk.count > 1 or end <= len(request.prompt):
                self._share(request, end - end % self.page_size, now)

    # ---- admission -------------------------------------------------------------------------

    def _admit(self, chunks: list[Chunk], budget: int, now: float) -> None:
        flight = {key for r in self.running if (key := self._next_page(r)) is not None}
        self._unpark(flight)
        for request in self._candidates():
            if budget <= 0 or len(self.running) >= self.limits.running:
                return
            key = self._claim(request, flight)
            if key is not None:
                self._waiting.remove(request)
                self._parked.setdefault(key, []).append(request)
                continue
            if not self._place(request, now):
                if not self.running:
                    raise CannotFit(request)
                self._stuck = (self.changes, budget)
                return
            self._start(request)
            count = min(request.left, budget)
            chunks.append(Chunk(request, request.computed, count))
            budget -= count
            if (mine := self._next_page(request)) is not None:
                flight.add(mine)

    def _candidates(self) -> list[Request]:
        """Who to admit, in this order: the longest cached prefix first, while it is still there.

        Whoever was passed over `PATIENCE` times goes before all others.
        """
        first = self._waiting[: max(LOOK_AHEAD, self.limits.running)]
        if len(first) < 2 or not self.limits.prefix_cache or first[0].passed >= PATIENCE:
            return first
        cached = {r.number: self.tree.match(r.tokens, r.salt).length for r in first[:LOOK_AHEAD]}
        return sorted(first, key=lambda r: (-cached.get(r.number, 0), order(r)))

    def _start(self, request: Request) -> None:
        """From waiting to running; those that were before it in order have been passed over."""
        at = self._waiting.index(request)
        del self._waiting[at]
        for earlier in self._waiting[: min(at, LOOK_AHEAD)]:
            earlier.passed += 1
        insort(self.running, request, key=order)

    def _unpark(self, flight: set[PageKey]) -> None:
        for key in [k for k in self._parked if k not in flight]:
            for request in self._parked.pop(key):
                self.add(request)

    def _next_page(self, request: Request) -> PageKey | None:
        """The page a running request is to put into the tree next, if it is a prompt's."""
        end = request.shared + self.page_size
        if request.node is None or not self.limits.prefix_cache:
            return None
        if request.computed >= end or end > len(request.tokens) or not request.prefilling:
            return None
        return request.node.id, tuple(request.tokens[request.shared : end])

    def _claim(self, request: Request, flight: set[PageKey]) -> PageKey | None:
        """The page in flight this request should wait for, if any."""
        if not flight:
            return None
        found = self.tree.match(request.tokens[:-1], request.salt)
        if found.inside < len(found.node.tokens):
            return None
        end = found.length + self.page_size
        if end >= len(request.tokens):
            return None
        key = (found.node.id, tuple(request.tokens[found.length : end]))
        return key if key in flight else None

    def _place(self, request: Request, now: float) -> bool:
        """Hold the cached prefix and take pages for the rest; False when they do not fit."""
        known = request.tokens[:-1] if self.limits.prefix_cache else []
        found = self.tree.acquire(known, now, request.salt)
        node, done = self._restore(found.node, known, found.length, now)
        length = max(len(request.tokens), min(request.expected, request.limit))
        need = self._pages_for(length - done)
        least = self._pages_for(len(request.tokens) - done)
        room = self.allocator.free + self.tree.cached_pages
        if need > room and not (not self.running and least <= room):
            self.tree.release(node, now)
            return False
        pages = self._take(min(need, room), None, now)
        assert pages is not None
        request.node, request.shared, request.pages = node, done, pages
        request.computed, request.path_version = done, -1
        request.reach = done + len(pages) * self.page_size
        self.changes += 1
        self._copy_head(request, known)
        if request.cached is None:
            request.cached = request.computed
        return True

    def _restore(self, node: Node, known: list[int], done: int, now: float) -> tuple[Node, int]:
        """Bring back what the host tier has of the rest, if that is cheaper than computing it."""
        if self.tree.host is None:
            return node, done
        there = self.tree.on_host(node, known, done)
        if there == 0 or not self.costs.restore_pays(there, done):
            return node, done
        return self.tree.restore(node, known, done, now)

    def _copy_head(self, request: Request, known: list[int]) -> None:
        """Copy the slots of a match that goes on inside a page, if they are still there."""
        again = self.tree.match(known, request.salt)
        if again.length == request.shared and again.copy_page is not None:
            self.mover.copy(again.copy_page, request.pages[0], again.copy_length)
            request.computed += again.copy_length

    # ---- room ------------------------------------------------------------------------------

    def _pages_for(self, tokens: int) -> int:
        return -(-tokens // self.page_size)

    def _take(self, count: int, after: int | None, now: float) -> list[int] | None:
        """Free pages, evicting for them; None when that is not enough."""
        lack = count - self.allocator.free
        if lack > 0:
            if lack > self.tree.cached_pages:
                return None
            for event in self.tree.evict(lack, now):
                self.log.append(event)
                self.evicted_tokens += event.tokens
        return self.allocator.take(count, after)

    def _make_room(self, request: Request, end: int, now: float) -> bool:
        """Pages up to position `end`; False when the request itself had to give way."""
        while (lack := self._pages_for(end - request.reach)) > 0:
            after = request.pages[-1] if request.pages else None
            pages = self._take(lack, after, now)
            if pages is not None:
                request.pages += pages
                request.reach += lack * self.page_size
                return True
            victim = self.running[-1]
            if len(self.running) == 1:
                raise CannotFit(request)
            self._preempt(victim, now)
            if victim is request:
                return False
        return True

    def _preempt(self, request: Request, now: float) -> None:
        pages, free, running = len(request.pages), self.allocator.free, len(self.running)
        way = self._leave(request, now)
        self.preemptions += 1
        self.preempted_to_host += way.to_host
        self.log.append(Preemption(request.number, pages, request.computed, free, running, way))
        request.preemptions += 1
        self.running.remove(request)
        self._give_up(request, now)
        self.add(request)

    def _leave(self, request: Request, now: float) -> WayOut:
        """Decide what becomes of the KV that only this request uses, as far as it has to go."""
        if not self.limits.prefix_cache:
            return self.costs.way_out(request.computed, 0, host=False)
        self._share(request, request.computed, now)
        assert request.node is not None
        alone = self.tree.held_alone(request.node)
        tokens = sum(len(node.tokens) for node in alone)
        host = self.tree.host
        room = host is not None and host.allocator.total >= sum(len(n.pages) for n in alone)
        way = self.costs.way_out(tokens, request.shared - tokens, room)
        for node in alone:
            node.to_host = way.to_host
        return way

    # ---- giving pages ----------------------------------------------------------------------

    def _share(self, request: Request, end: int, now: float) -> None:
        """Move the request's own pages up to position `end` into the tree."""
        if end <= request.shared or not self.limits.prefix_cache:
            return
        assert request.node is not None
        count = self._pages_for(end - request.shared)
        tokens = request.tokens[request.shared : end]
        request.node = self.tree.extend(request.node, tokens, request.pages[:count], now)
        request.pages = request.pages[count:]
        request.shared = end
        request.path_version = -1
        self.changes += 1

    def _give_up(self, request: Request, now: float, keep: bool = True) -> None:
        """Leave the step: computed KV to the tree, the rest to the free pages."""
        if keep:
            self._share(request, request.computed, now)
        self.allocator.give(request.pages)
        assert request.node is not None
        self.tree.release(request.node, now)
        request.pages, request.node = [], None
        request.computed = request.shared = request.reach = 0
        self.changes += 1
        request.path_version = -1


def order(request: Request) -> tuple[float, int]:
    """Smaller runs earlier and is preempted later."""
    return request.arrival - AGEING * request.priority, request.number
