"""Nodes that may be evicted, the least valuable first."""

from __future__ import annotations

import heapq
from itertools import count

from .node import Node
from .value import Value, ValueFunction


class Leaves:
    """A heap of nodes by value. Entries may be stale: each is looked at again when it comes up."""

    def __init__(self, value: ValueFunction) -> None:
        self.value = value
        self.nodes = 0
        """How many the tree has, so that stale entries are swept in time."""
        self._heap: list[tuple[Value, int, Node]] = []
        self._tickets = count()

    def offer(self, node: Node, now: float) -> None:
        """Put a node in its place, if it may be evicted."""
        if node.evictable:
            self._push(node, self.value(node, now))

    def take(self, now: float) -> Node | None:
        """The least valuable node, out of the heap; None when there is none."""
        while self._heap:
            value, _, node = heapq.heappop(self._heap)
            if not node.evictable:
                continue
            current = self.value(node, now)
            if current > value and self._heap and current > self._heap[0][0]:
                self._push(node, current)
                continue
            return node
        return None

    def spare(self, need: int, before: float, now: float) -> bool:
        """Whether so many pages are in nodes that may go and that nobody asks for: unwanted ones,
        and those last used before then. Pinned ones are not."""
        seen: set[int] = set()
        for _, _, node in self._heap:
            if need <= 0:
                break
            gone = node.unwanted or node.last_used < before
            if gone and node.evictable and node.pinned_until(now) <= now and node.id not in seen:
                seen.add(node.id)
                need -= len(node.pages)
        return need <= 0

    def _push(self, node: Node, value: Value) -> None:
        if len(self._heap) > 64 + 4 * self.nodes:
            self._sweep()
        heapq.heappush(self._heap, (value, next(self._tickets), node))

    def _sweep(self) -> None:
        """Keep one entry, the least, of each node that may go."""
        least: dict[int, tuple[Value, int, Node]] = {}
        for entry in sorted(self._heap):
            if entry[2].evictable:
                least.setdefault(entry[2].id, entry)
        self._heap = list(least.values())  # sorted, and so a heap
