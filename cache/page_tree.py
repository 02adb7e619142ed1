"""Nodes that own pages: adding, cutting, holding and removing them, with every page accounted for.

Which tokens lead where is `radix`, what goes when pages are short is `tiers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from .leaves import Leaves
from .node import Node
from .pages import PageAllocator
from .pins import Pins
from .value import ValueFunction


class PageTree:
    """A tree of nodes over one KV pool; one root for each salt."""

    def __init__(self, allocator: PageAllocator, page_size: int, value: ValueFunction) -> None:
        self.allocator = allocator
        self.page_size = page_size
        self.leaves = Leaves(value)
        self.pins = Pins()
        self.cached_pages = 0
        """Pages in nodes that nobody holds."""
        self.held_pages = 0
        """Pages in nodes on the path of a hold."""
        self.version = 0
        """Grows when a node is split: paths remembered from before are stale."""
        self._roots: dict[str, Node] = {}
        self._roots_kept = 64
        self._ids = count()

    def nodes(self) -> Iterator[Node]:
        """Every node below the roots, parents first."""
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            if node.parent is not None:
                yield node
            stack.extend(node.children.values())

    def root(self, salt: str) -> Node:
        """Above everything of one salt."""
        root = self._roots.get(salt)
        if root is None:
            if len(self._roots) >= self._roots_kept:
                self._forget_roots()
            root = self._roots[salt] = Node(next(self._ids), None, (), [])
        return root

    def _forget_roots(self) -> None:
        """Salts of which nothing is left."""
        self._roots = {salt: r for salt, r in self._roots.items() if r.children or r.holds}
        self._roots_kept = 64 + 2 * len(self._roots)

    # ---- holds -----------------------------------------------------------------------------

    def hold(self, node: Node, now: float) -> None:
        """Keep a node and those above it until the hold is given back."""
        below: Node | None = node
        while below is not None:
            if below.holds == 0 and not below.on_host:
                self.held_pages += len(below.pages)
                self.cached_pages -= len(below.pages)
            below.holds += 1
            below.unwanted = False
            below.to_host = None
            below.last_used = now
            below = below.parent

    def release(self, node: Node, now: float) -> None:
        """Give a hold back; the KV stays cached."""
        below: Node | None = node
        while below is not None:
            below.holds -= 1
            assert below.holds >= 0, "released more often than held"
            if below.holds == 0:
                self.held_pages -= len(below.pages)
                self.cached_pages += len(below.pages)
                below.last_used = now
                self.leaves.offer(below, now)
            below = below.parent

    def held_alone(self, node: Node) -> list[Node]:
        """The end of a held path that nobody else holds, lowest first: it would become cached."""
        alone: list[Node] = []
        below: Node | None = node
        while below is not None and below.parent is not None and below.holds == 1:
            alone.append(below)
            below = below.parent
        return alone

    # ---- nodes -----------------------------------------------------------------------------

    def add(self, parent: Node, tokens: Sequence[int], pages: Sequence[int], now: float) -> Node:
        """A new child, not held."""
        node = Node(next(self._ids), parent, tuple(tokens), list(pages), now)
        parent.children[node.tokens[: self.page_size]] = node
        parent.on_device += 1
        self.cached_pages += len(node.pages)
        self.leaves.nodes += 1
        return node

    def split(self, node: Node, at: int) -> Node:
        """Cut a node in two at a page border; the new upper part. `node` stays the lower one."""
        assert 0 < at < len(node.tokens) and at % self.page_size == 0 and node.parent is not None
        size = self.page_size
        parent = node.parent
        upper = Node(next(self._ids), parent, node.tokens[:at], node.pages[: at // size])
        upper.last_used, upper.holds = node.last_used, node.holds
        upper.to_host, upper.unwanted = node.to_host, node.unwanted
        parent.children[node.tokens[:size]] = upper
        upper.on_host, upper.on_device = node.on_host, 0 if node.on_host else 1
        node.tokens, node.pages, node.parent = node.tokens[at:], node.pages[at // size :], upper
        node._runs = None
        upper.children[node.tokens[:size]] = node
        self.version += 1
        self.leaves.nodes += 1
        return upper

    def remove(self, node: Node, now: float) -> None:
        """Take a node without children, whose pages are given back, out of the tree."""
        parent = node.parent
        assert parent is not None and not node.children
        del parent.children[node.tokens[: self.page_size]]
        parent.on_device -= not node.on_host
        self.leaves.nodes -= 1
        self.pins.shorten(node, parent)
        node.pages, node.parent = [], None
        if not node.on_host:
            self.leaves.offer(parent, now)
