"""The prefix tree: which token sequences have KV in the pool, and who is using it.

An edge holds tokens and the pages they fill. Edges meet at page borders, so a node's pages belong
to it alone. Only a leaf may end inside a page; a match that ends inside a page is served by copying
those few slots into a page of the asker's own, so hits count to the token.

Every page is in one of three states, and `free + cached + held == total` always:
    free      in the allocator
    cached    in a node nobody holds: kept for later, may be evicted
    held      in a node on the path of a running request, or private to one
A pin is softer than a hold: it makes eviction prefer others until its deadline.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from .pages import PageAllocator, runs_of
from .value import Value, ValueFunction, least_recently_used

NEAR_LIMIT = 64
"""Siblings looked at for a match that ends inside a page."""

_FOREVER = float("inf")


@dataclass(slots=True, eq=False)
class Node:
    """An edge of the tree and the point where it ends."""

    id: int
    parent: Node | None
    tokens: tuple[int, ...]
    pages: list[int]
    last_used: float = 0.0
    hits: int = 0
    holds: int = 0
    """Requests that use this node or one below it."""
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)
    """By the tokens of the child's first page (fewer when the child ends inside it)."""
    pins: dict[int, float] = field(default_factory=dict)
    """Pin number -> deadline."""
    _runs: list[tuple[int, int]] | None = None

    def runs(self) -> list[tuple[int, int]]:
        """Its pages as (first page, count) runs of neighbours."""
        if self._runs is None:
            self._runs = runs_of(self.pages)
        return self._runs

    def pinned_until(self, now: float) -> float:
        """The latest deadline of its pins, `-inf` without one."""
        return max(self.pins.values(), default=-_FOREVER)

    @property
    def is_leaf(self) -> bool:
        return not self.children

    def path(self) -> list[Node]:
        """Nodes from below the root down to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes


@dataclass(frozen=True, slots=True)
class Match:
    """The longest cached prefix of some tokens."""

    node: Node
    """Deepest node on the way; whole, or used up to `inside` tokens."""
    inside: int
    """Tokens of `node` that matched, a multiple of the page size unless it is whole."""
    length: int
    """Tokens matched in whole pages, from the root on."""
    copy_page: int | None
    """Page whose first `copy_length` slots continue the match, to be copied."""
    copy_length: int

    @property
    def total(self) -> int:
        return self.length + self.copy_length


@dataclass(frozen=True, slots=True)
class Eviction:
    """One leaf, or the end of one, that was dropped, and why it was the one."""

    tokens: int
    pages: int
    value: Value
    idle: float
    pinned: bool


class RadixTree:
    """The prefix tree over one KV pool. Plain bookkeeping: time is passed in, KV is elsewhere."""

    def __init__(
        self,
        allocator: PageAllocator,
        page_size: int,
        value: ValueFunction = least_recently_used,
    ) -> None:
        self.allocator = allocator
        self.page_size = page_size
        self.value = value
        self.cached_pages = 0
        """Pages in nodes that nobody holds."""
        self.held_pages = 0
        """Pages in nodes on the path of a hold."""
        self.version = 0
        """Grows when a node is split: paths remembered from before are stale."""
        self._roots: dict[str, Node] = {}
        self._ids = count()
        self._pin_ids = count()
        self._pinned: dict[int, Node] = {}
        self._node_count = 0
        self._heap: list[tuple[Value, int, Node]] = []
        self._expiries: list[tuple[float, int]] = []

    # ---- looking up ------------------------------------------------------------------------

    def match(self, tokens: Sequence[int], salt: str = "") -> Match:
        """The longest cached prefix. Changes nothing."""
        node = self._root(salt)
        size = self.page_size
        done = 0
        while True:
            child = node.children.get(tuple(tokens[done : done + size]))
            if child is None or len(child.tokens) < size:
                page, extra = self._near(node, tokens[done : done + size])
                return Match(node, len(node.tokens), done, page, extra)
            same = _common(child.tokens, tokens, done)
            whole = same - same % size
            done += whole
            if whole < len(child.tokens):
                page = child.pages[whole // size] if same > whole else None
                return Match(child, whole, done, page, same - whole)
            node = child

    def acquire(self, tokens: Sequence[int], now: float, salt: str = "") -> Match:
        """Match and hold: the matched pages stay until `release` of the match's node."""
        found = self.match(tokens, salt)
        node = found.node
        if node.parent is not None and found.inside < len(node.tokens):
            node = self._split(node, found.inside)
        self._hold(node, now)
        return Match(node, len(node.tokens), found.length, found.copy_page, found.copy_length)

    # ---- growing ---------------------------------------------------------------------------

    def extend(self, node: Node, tokens: Sequence[int], pages: Sequence[int], now: float) -> Node:
        """Move a hold on `node` down to newly computed tokens below it, giving their pages.

        Where the tree has those tokens already, its own pages are used and the given ones freed.
        Only the last page may be partly filled.
        """
        size = self.page_size
        assert len(pages) == -(-len(tokens) // size), "pages and tokens do not fit"
        below, done = node, 0
        while done < len(tokens):
            child = below.children.get(tuple(tokens[done : done + size]))
            if child is None:
                below = self._add_rest(below, tokens[done:], pages[done // size :], now)
                break
            same = _common(child.tokens, tokens, done)
            if same == len(child.tokens) == len(tokens) - done:
                self.allocator.give(pages[done // size :])
                below = child
                break
            whole = same - same % size
            if whole < len(child.tokens):
                child = self._split(child, whole)
            self.allocator.give(pages[done // size : (done + whole) // size])
            below, done = child, done + whole
        self._hold(below, now)
        self.release(node, now)
        return below

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
                self._offer(below, now)
            below = below.parent

    # ---- pins ------------------------------------------------------------------------------

    def pin(self, tokens: Sequence[int], until: float, now: float, salt: str = "") -> int | None:
        """Ask that the cached prefix of these tokens stays until a deadline. Soft.

        None when nothing of it is cached.
        """
        found = self.match(tokens, salt)
        if found.length == 0 or found.node.parent is None:
            return None
        node = found.node
        if found.inside < len(node.tokens) and found.inside:
            node = self._split(node, found.inside)
        number = next(self._pin_ids)
        node.pins[number] = until
        self._pinned[number] = node
        heapq.heappush(self._expiries, (until, number))
        self._offer(node, now)
        return number

    def unpin(self, number: int, now: float) -> bool:
        """Drop a pin; False when it had run out, or its pages had to go."""
        node = self._pinned.pop(number, None)
        if node is None:
            return False
        del node.pins[number]
        self._offer(node, now)
        return True

    def expire(self, now: float) -> int:
        """Drop the pins whose deadline has passed; how many there were."""
        dropped = 0
        while self._expiries and self._expiries[0][0] <= now:
            _, number = heapq.heappop(self._expiries)
            dropped += self.unpin(number, now)
        return dropped

    # ---- shrinking -------------------------------------------------------------------------

    def evict(self, need: int, now: float) -> list[Eviction]:
        """Free up to `need` cached pages, the least valuable leaves first."""
        self.expire(now)
        gone: list[Eviction] = []
        while need > 0 and self._heap:
            value, _, node = heapq.heappop(self._heap)
            if not self._evictable(node):
                continue
            current = self.value(node, now)
            if current > value and self._heap and current > self._heap[0][0]:
                self._push(node, current)
                continue
            cut = self._trim(node, need, now)
            need -= cut.pages
            gone.append(cut)
        return gone

    def clear(self, now: float) -> int:
        """Drop everything nobody holds; how many pages that freed."""
        return sum(e.pages for e in self.evict(self.allocator.total, now))

    # ---- seeing ----------------------------------------------------------------------------

    def nodes(self) -> Iterator[Node]:
        """Every node below the roots, parents first."""
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            if node.parent is not None:
                yield node
            stack.extend(node.children.values())

    # ---- inside ----------------------------------------------------------------------------

    def _root(self, salt: str) -> Node:
        root = self._roots.get(salt)
        if root is None:
            root = self._roots[salt] = Node(next(self._ids), None, (), [])
        return root

    def _near(self, node: Node, tokens: Sequence[int]) -> tuple[int | None, int]:
        """The child's first page that shares the most of `tokens`, less than a page."""
        best, page = 0, None
        if not tokens:
            return page, best
        for seen, child in enumerate(reversed(node.children.values())):
            if seen == NEAR_LIMIT:
                break
            if child.tokens[0] == tokens[0]:
                same = _common(child.tokens[: len(tokens)], tokens, 0)
                if same > best:
                    best, page = same, child.pages[0]
        return page, best

    def _add_rest(
        self, parent: Node, tokens: Sequence[int], pages: Sequence[int], now: float
    ) -> Node:
        """Add tokens no child starts with, unless they are the head of a child's first page."""
        if len(tokens) < self.page_size and self._near(parent, tokens)[1] == len(tokens):
            self.allocator.give(pages)
            return parent
        self._drop_heads(parent, tuple(tokens[: self.page_size]), now)
        return self._add(parent, tokens, pages, now)

    def _drop_heads(self, parent: Node, first: tuple[int, ...], now: float) -> None:
        """Free children that hold only the head of a page about to be added whole."""
        for length in range(1, min(len(first), self.page_size - 1) + 1):
            head = parent.children.get(first[:length])
            if head is not None and self._evictable(head) and not head.pins:
                self._trim(head, len(head.pages), now)

    def _add(self, parent: Node, tokens: Sequence[int], pages: Sequence[int], now: float) -> Node:
        node = Node(next(self._ids), parent, tuple(tokens), list(pages), now)
        parent.children[node.tokens[: self.page_size]] = node
        self.cached_pages += len(node.pages)
        self._node_count += 1
        return node

    def _split(self, node: Node, at: int) -> Node:
        """Cut a node in two at a page border; the new upper part. `node` stays the lower one."""
        assert 0 < at < len(node.tokens) and at % self.page_size == 0 and node.parent is not None
        size = self.page_size
        parent = node.parent
        upper = Node(next(self._ids), parent, node.tokens[:at], node.pages[: at // size])
        upper.last_used, upper.hits, upper.holds = node.last_used, node.hits, node.holds
        parent.children[node.tokens[:size]] = upper
        node.tokens, node.pages, node.parent = node.tokens[at:], node.pages[at // size :], upper
        upper.children[node.tokens[:size]] = node
        node._runs = None
        self.version += 1
        self._node_count += 1
        return upper

    def _hold(self, node: Node, now: float) -> None:
        below: Node | None = node
        while below is not None:
            if below.holds == 0:
                self.held_pages += len(below.pages)
                self.cached_pages -= len(below.pages)
            below.holds += 1
            below.hits += 1
            below.last_used = now
            below = below.parent

    def _evictable(self, node: Node) -> bool:
        return not node.holds and not node.children and node.parent is not None and bool(node.pages)

    def _offer(self, node: Node, now: float) -> None:
        if self._evictable(node):
            self._push(node, self.value(node, now))

    def _push(self, node: Node, value: Value) -> None:
        if len(self._heap) > 64 + 4 * self._node_count:
            self._heap = [e for e in self._heap if self._evictable(e[2])]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (value, next(self._ids), node))

    def _trim(self, node: Node, need: int, now: float) -> Eviction:
        """Drop the last pages of a leaf, the whole leaf when `need` covers it."""
        count = min(need, len(node.pages))
        keep = len(node.pages) - count
        dropped = node.pages[keep:]
        tokens = len(node.tokens) - keep * self.page_size
        pinned = node.pinned_until(now) > now
        event = Eviction(tokens, count, self.value(node, now), now - node.last_used, pinned)
        self.allocator.give(dropped)
        self.cached_pages -= count
        if keep:
            node.pages = node.pages[:keep]
            node._runs = None
            node.tokens = node.tokens[: keep * self.page_size]
            self._offer(node, now)
        else:
            self._remove(node, now)
        return event

    def _remove(self, node: Node, now: float) -> None:
        parent = node.parent
        assert parent is not None
        del parent.children[node.tokens[: self.page_size]]
        self._node_count -= 1
        for number in node.pins:
            del self._pinned[number]
        node.pins.clear()
        node.pages, node.parent = [], None
        self._offer(parent, now)


def _common(edge: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many tokens of `edge` equal `tokens` from `start` on."""
    limit = min(len(edge), len(tokens) - start)
    if tuple(edge[:limit]) == tuple(tokens[start : start + limit]):
        return limit
    low, high = 0, limit
    while low < high:  # the longest equal head, by halving: slices compare at C speed
        middle = (low + high + 1) // 2
        if tuple(edge[low:middle]) == tuple(tokens[start + low : start + middle]):
            low = middle
        else:
            high = middle - 1
    return low
