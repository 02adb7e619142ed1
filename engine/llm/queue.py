"""Who waits, in which order they come, and who waits for a prefix that somebody is computing."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from ...cache.radix import RadixTree
from .request import Request

AGEING = 10.0
"""Seconds of waiting that one unit of priority is worth."""
LOOK_AHEAD = 64
"""Waiting requests among which those with a cached prefix go first."""
PATIENCE = 128
"""How often a request may be passed over by such."""

PageKey = tuple[int, tuple[int, ...]]
"""(node, tokens of the next page, or as many as there are): what somebody may be computing now."""


def order(request: Request) -> tuple[float, int]:
    """Smaller runs earlier and is preempted later."""
    return request.arrival - AGEING * request.priority, request.number


class Queue:
    """Requests that wait: in order, or parked until a page in flight is there."""

    def __init__(self, tree: RadixTree, prefix_cache: bool) -> None:
        self._tree = tree
        self._prefix_cache = prefix_cache
        self._waiting: list[Request] = []
        self._parked: dict[PageKey, list[Request]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._parked.values()))

    def __iter__(self) -> Iterator[Request]:
        yield from self._waiting
        for parked in self._parked.values():
            yield from parked

    def add(self, request: Request) -> None:
        insort(self._waiting, request, key=order)

    def remove(self, request: Request) -> None:
        """It waits no longer, wherever it does; nothing if it does not."""
        for line in (self._waiting, *self._parked.values()):
            if request in line:
                line.remove(request)

    def candidates(self, most: int) -> list[Request]:
        """Who to admit, in this order: the longest cached prefix first, while it is still there.

        Whoever was passed over `PATIENCE` times goes before all others.
        """
        first = self._waiting[: max(LOOK_AHEAD, most)]
        if len(first) < 2 or not self._prefix_cache or first[0].passed >= PATIENCE:
            return first
        cached = {r.number: self._tree.match(r.tokens, r.salt).length for r in first[:LOOK_AHEAD]}
        return sorted(first, key=lambda r: (-cached.get(r.number, 0), order(r)))

    def start(self, request: Request) -> None:
        """It runs from now on; those that were before it in order have been passed over."""
        at = self._waiting.index(request)
        del self._waiting[at]
        for earlier in self._waiting[: min(at, LOOK_AHEAD)]:
            earlier.passed += 1

    # ---- pages in flight -------------------------------------------------------------------

    def park(self, request: Request, flight: set[PageKey]) -> bool:
        """Let it wait for a page in flight that it begins with, if there is one."""
        key = self._claim(request, flight)
        if key is None:
            return False
        self._waiting.remove(request)
        self._parked.setdefault(key, []).append(request)
        return True

    def unpark(self, flight: set[PageKey]) -> None:
        """Those whose page is no longer in flight wait in order again."""
        for key in [k for k in self._parked if k not in flight]:
            for request in self._parked.pop(key):
                self.add(request)

    def next_page(self, request: Request) -> PageKey | None:
        """The page a running request is to put into the tree next, if it is a prompt's."""
        end = request.shared + self._tree.page_size
        if request.node is None or not self._prefix_cache:
            return None
        if request.computed >= end or not request.prefilling:
            return None
        return request.node.id, tuple(request.tokens[request.shared : end])

    def _claim(self, request: Request, flight: set[PageKey]) -> PageKey | None:
        """The page in flight this request should wait for, if any."""
        if not flight:
            return None
        found = self._tree.match(request.tokens[:-1], request.salt)
        if found.inside < len(found.node.tokens) or len(request.tokens) - found.total < 2:
            return None
        end = found.length + self._tree.page_size
        key = (found.node.id, tuple(request.tokens[found.length : end]))
        return key if key in flight else None
