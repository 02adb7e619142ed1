"""The host tier: KV that was evicted from the device and is cheaper to bring back than to compute.

It has pages of its own, least recently used first out. Moving the bytes is the mover's business;
whether a leaf is worth moving is decided by `worth`, from measured costs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from .node import Node
from .pages import PageAllocator


class TierMover(Protocol):
    """Copies pages between the tiers."""

    def offload(self, device: Sequence[int], host: Sequence[int]) -> None: ...

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None: ...


Worth = Callable[[Node, float], bool]
"""(leaf, now) -> whether it should be offloaded rather than dropped."""


def always(node: Node, now: float) -> bool:
    return True


class HostTier:
    """Host pages, and the host nodes that own them."""

    def __init__(self, allocator: PageAllocator, mover: TierMover, worth: Worth = always) -> None:
        self.allocator = allocator
        self.worth = worth
        self.offloaded_pages = 0
        """How many pages went out so far."""
        self.restored_pages = 0
        """How many came back."""
        self._mover = mover
        self._nodes: dict[int, Node] = {}
        self._ages: list[tuple[float, int, Node]] = []
        self._tickets = count()

    def offload(self, node: Node, now: float) -> list[int]:
        """Copy a device node's KV here; its host pages."""
        pages = self.allocator.take(len(node.pages))
        self._mover.offload(node.pages, pages)
        self.offloaded_pages += len(pages)
        self._own(node)
        return pages

    def restore(self, node: Node, pages: Sequence[int]) -> None:
        """Copy a host node's KV to device pages."""
        self._mover.restore(node.pages, pages)
        self.restored_pages += len(pages)

    def give(self, node: Node) -> None:
        """Free a host node's pages."""
        self.allocator.give(node.pages)
        del self._nodes[node.id]

    def split(self, upper: Node, lower: Node) -> None:
        """A host node was cut in two."""
        self._own(upper)
        self._own(lower)

    def oldest_leaf(self) -> Node | None:
        """The host node without children that was used longest ago."""
        skipped: list[tuple[float, int, Node]] = []
        found: Node | None = None
        while self._ages and found is None:
            age, ticket, node = heapq.heappop(self._ages)
            if node.id not in self._nodes:
                continue
            if node.children or node.holds:
                skipped.append((age, ticket, node))
            elif node.last_used > age:
                heapq.heappush(self._ages, (node.last_used, ticket, node))
            else:
                skipped.append((age, ticket, node))
                found = node
        for entry in skipped:
            heapq.heappush(self._ages, entry)
        return found

    def _own(self, node: Node) -> None:
        self._nodes[node.id] = node
        if len(self._ages) > 64 + 4 * len(self._nodes):
            self._ages = [(n.last_used, next(self._tickets), n) for n in self._nodes.values()]
            heapq.heapify(self._ages)
            return
        heapq.heappush(self._ages, (node.last_used, next(self._tickets), node))
