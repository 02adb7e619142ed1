"""The KV of requests: which pages they get, grow into, share with the tree and give up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from ...cache.node import Eviction, Node
from ...cache.paths import common
from ...cache.radix import RadixTree
from .costs import Costs, WayOut
from .request import Request

LOG = 256
"""Evictions and preemptions remembered for `explain`."""


class KVMover(Protocol):
    """Moves KV between pages; the pool on a device, nothing in the simulator."""

    def copy(self, source: int, target: int, slots: int) -> None: ...


class Holdings:
    """What the requests of one tree hold. Pages come from free ones, then from cached ones."""

    def __init__(self, tree: RadixTree, mover: KVMover, costs: Costs, prefix_cache: bool) -> None:
        self.tree = tree
        self.costs = costs
        self.changes = 0
        """Grows whenever somebody begins, ends, or has KV moved: plans from before are stale."""
        self.log: deque[object] = deque(maxlen=LOG)
        """What had to go and who had to give way, each with its reason as text."""
        self.evicted_tokens = 0
        self._mover = mover
        self._prefix_cache = prefix_cache

    def place(self, request: Request, now: float, running: Sequence[Request]) -> bool:
        """Hold the cached prefix and take pages for the rest; False when they do not fit.

        Where nobody else runs, less room than is expected to be needed will do.
        """
        known = request.tokens[:-1] if self._prefix_cache else []
        found = self.tree.acquire(known, now, request.salt)
        node, done = self._restore(found.node, known, found.length, now)
        length = max(len(request.tokens), min(request.expected, request.limit))
        need = self.pages_for(length - done)
        least = self.pages_for(len(request.tokens) - done)
        room = self.tree.allocator.free + self.tree.cached_pages
        if need > room and (running or least > room):
            self.tree.release(node, now)
            return False
        pages = self._take(min(need, room), None, now)
        assert pages is not None
        request.node, request.shared, request.pages = node, done, pages
        request.computed, request.path_version = done, -1
        request.reach = done + len(pages) * self.tree.page_size
        self.changes += 1
        self._copy_head(request, known)
        self._copy_beside(request, known, running)
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
        gone: list[Eviction] = []
        found = self.tree.restore(node, known, done, now, gone)
        self._note(gone)
        return found

    def _copy_head(self, request: Request, known: list[int]) -> None:
        """Copy the slots of a match that goes on inside a page, if they are still there."""
        again = self.tree.match(known, request.salt)
        if again.length == request.shared and again.copy_page is not None:
            self._mover.copy(again.copy_page, request.pages[0], again.copy_length)
            request.computed += again.copy_length

    def _copy_beside(self, request: Request, known: list[int], running: Sequence[Request]) -> None:
        """Copy what others have computed of the page in which the request leaves the tree: until
        they end, the tree gets whole pages of their prompts only."""
        first = request.shared
        end = min(first + self.tree.page_size, len(known))
        for other in running:
            at = request.computed
            if at >= end:
                return
            if other.node is request.node and other.computed > at and other.tokens[at] == known[at]:
                same = common(other.tokens[first : min(other.computed, end)], known, first)
                if first + same > at:
                    self._mover.copy(other.pages[0], request.pages[0], same)
                    request.computed = first + same

    def grow(self, request: Request, end: int, now: float) -> bool:
        """Pages up to position `end`; False when there is no room for them."""
        lack = self.pages_for(end - request.reach)
        if lack <= 0:
            return True
        pages = self._take(lack, request.pages[-1] if request.pages else None, now)
        if pages is None:
            return False
        request.pages += pages
        request.reach += lack * self.tree.page_size
        return True

    def share(self, request: Request, end: int, now: float) -> None:
        """Move the request's own pages up to position `end` into the tree."""
        if end <= request.shared or not self._prefix_cache:
            return
        assert request.node is not None
        count = self.pages_for(end - request.shared)
        tokens = request.tokens[request.shared : end]
        request.node = self.tree.extend(request.node, tokens, request.pages[:count], now)
        request.pages = request.pages[count:]
        request.shared = end
        request.path_version = -1
        self.changes += 1

    def leave(self, request: Request, now: float) -> WayOut:
        """Decide what becomes of the KV that only this request uses, as far as it has to go."""
        if not self._prefix_cache:
            return self.costs.way_out(request.computed, 0, host=False)
        self.share(request, request.computed, now)
        assert request.node is not None
        alone = self.tree.held_alone(request.node)
        tokens = sum(len(node.tokens) for node in alone)
        host = self.tree.host
        room = host is not None and host.allocator.total >= sum(len(n.pages) for n in alone)
        way = self.costs.way_out(tokens, request.shared - tokens, room)
        for node in alone:
            node.to_host = way.to_host
        return way

    def give_up(self, request: Request, now: float, keep: bool = True) -> None:
        """Leave the step: computed KV to the tree, the rest to the free pages."""
        if keep:
            self.share(request, request.computed, now)
        self.tree.allocator.give(request.pages)
        assert request.node is not None
        self.tree.release(request.node, now)
        request.pages, request.node = [], None
        request.computed = request.shared = request.reach = 0
        self.changes += 1
        request.path_version = -1

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self.tree.page_size)

    def _take(self, count: int, after: int | None, now: float) -> list[int] | None:
        """Free pages, evicting for them; None when that is not enough."""
        lack = count - self.tree.allocator.free
        if lack > 0:
            if lack > self.tree.cached_pages:
                return None
            self._note(self.tree.evict(lack, now))
        return self.tree.allocator.take(count, after)

    def _note(self, gone: Iterable[Eviction]) -> None:
        for event in gone:
            self.log.append(event)
            self.evicted_tokens += event.tokens
