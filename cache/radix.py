"""The prefix tree: which token sequences have KV in the pool, and who is using it.

An edge holds tokens and the pages they fill. Edges meet at page borders, so a node's pages belong
to it alone. Only a leaf may end inside a page; a match that ends inside a page is served by copying
those few slots into a page of the asker's own, so hits count to the token.

Every page is in one of three states, and `free + cached + held == total` always:
    free      in the allocator
    cached    in a node nobody holds: kept for later, may be evicted
    held      in a node on the path of a running request, or private to one
A pin is softer than a hold: it makes eviction prefer others until its deadline.

With a host tier, an evicted leaf may move its KV to host memory and stay in the tree as a host
node. All nodes below a host node are host nodes; a request that matches them restores them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from .host import HostTier
from .node import Eviction, Match, Node
from .pages import PageAllocator
from .pins import Pins
from .value import Value, ValueFunction, least_recently_used

NEAR_LIMIT = 64
"""Siblings looked at for a match that ends inside a page."""


class RadixTree:
    """The prefix tree over one KV pool. Plain bookkeeping: time is passed in, KV is elsewhere."""

    def __init__(
        self,
        allocator: PageAllocator,
        page_size: int,
        value: ValueFunction = least_recently_used,
        host: HostTier | None = None,
    ) -> None:
        self.allocator = allocator
        self.page_size = page_size
        self.value = value
        self.host = host
        self.cached_pages = 0
        """Pages in nodes that nobody holds."""
        self.held_pages = 0
        """Pages in nodes on the path of a hold."""
        self.pins = Pins()
        self.version = 0
        """Grows when a node is split: paths remembered from before are stale."""
        self._roots: dict[str, Node] = {}
        self._ids = count()
        self._node_count = 0
        self._heap: list[tuple[Value, int, Node]] = []

    # ---- looking up ------------------------------------------------------------------------

    def match(self, tokens: Sequence[int], salt: str = "") -> Match:
        """The longest cached prefix. Changes nothing."""
        node = self._root(salt)
        size = self.page_size
        done = 0
        while True:
            child = node.children.get(tuple(tokens[done : done + size]))
            if child is None or child.on_host or len(child.tokens) < size:
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
            whole = same if same == len(child.tokens) == len(tokens) - done else same - same % size
            if whole < len(child.tokens):
                child = self._split(child, whole)
            mine = pages[done // size : -(-(done + whole) // size)]
            if child.on_host:
                self._settle(child, list(mine))
            else:
                self.allocator.give(mine)
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

    def held_alone(self, node: Node) -> list[Node]:
        """The end of a held path that nobody else holds, lowest first: it would become cached."""
        alone: list[Node] = []
        below: Node | None = node
        while below is not None and below.parent is not None and below.holds == 1:
            alone.append(below)
            below = below.parent
        return alone

    def _own_path(self, tokens: Sequence[int], salt: str) -> list[Node]:
        """The nodes that hold these tokens and no others; the last one may end inside a page."""
        found = self.match(tokens, salt)
        if found.inside < len(found.node.tokens):
            return []
        path = found.node.path()
        rest = tuple(tokens[found.length : found.length + self.page_size])
        for length in range(len(rest), 0, -1):
            child = found.node.children.get(rest[:length])
            if child is not None and child.tokens == rest[:length]:
                return [*path, child]
        return path

    # ---- host tier -------------------------------------------------------------------------

    def on_host(self, node: Node, tokens: Sequence[int], done: int) -> int:
        """How many of `tokens[done:]`, in whole pages, host nodes below `node` hold."""
        start = done
        while (step := self._host_step(node, tokens, done)) is not None:
            node, whole = step
            done += whole
            if whole < len(node.tokens):
                break
        return done - start

    def restore(self, node: Node, tokens: Sequence[int], done: int, now: float) -> tuple[Node, int]:
        """Bring host nodes below a held `node` back to the device, as far as there is room.

        Moves the hold down; the node it is on now, and the tokens matched in all.
        """
        assert self.host is not None
        while (step := self._host_step(node, tokens, done)) is not None:
            child, whole = step
            need = whole // self.page_size
            if need > self.allocator.free + self.cached_pages:
                break
            child = self._split(child, whole) if whole < len(child.tokens) else child
            self._hold(child, now)
            self.evict(need - self.allocator.free, now)
            pages = self.allocator.take(need)
            self.host.restore(child, pages)
            self._settle(child, pages)
            self.release(node, now)
            node, done = child, done + whole
        return node, done

    def _host_step(self, node: Node, tokens: Sequence[int], done: int) -> tuple[Node, int] | None:
        """The host child that goes on with the tokens, and how many of them in whole pages."""
        child = node.children.get(tuple(tokens[done : done + self.page_size]))
        if child is None or not child.on_host:
            return None
        same = _common(child.tokens, tokens, done)
        whole = same - same % self.page_size
        return (child, whole) if whole else None

    def _settle(self, node: Node, pages: list[int]) -> None:
        """A host node's KV is on the device now, in these pages."""
        assert self.host is not None
        self.host.forget(node)
        node.move(pages, on_host=False)
        if node.holds:
            self.held_pages += len(pages)
        else:
            self.cached_pages += len(pages)

    # ---- pins ------------------------------------------------------------------------------

    def pin(self, tokens: Sequence[int], until: float, now: float, salt: str = "") -> int | None:
        """Ask that the cached prefix of these tokens stays until a deadline. Soft.

        None when the deadline has passed, or nothing of it is cached.
        """
        found = self.match(tokens, salt)
        if until <= now or found.length == 0 or found.node.parent is None:
            return None
        node = found.node
        if found.inside < len(node.tokens) and found.inside:
            node = self._split(node, found.inside)
        number = self.pins.add(node, until)
        self._offer(node, now)
        return number

    def unpin(self, number: int, now: float) -> bool:
        """Drop a pin; False when it had run out, or its pages had to go."""
        node = self.pins.drop(number)
        if node is not None:
            self._offer(node, now)
        return node is not None

    def expire(self, now: float) -> int:
        """Drop the pins whose deadline has passed; how many there were."""
        nodes = self.pins.take_expired(now)
        for node in nodes:
            self._offer(node, now)
        return len(nodes)

    # ---- shrinking -------------------------------------------------------------------------

    def let_go(self, tokens: Sequence[int], keep: int, now: float, salt: str = "") -> int:
        """Nobody will ask for what lies behind the first `keep` of these tokens: it is evicted
        before anything else. Nodes in use, or with others below them, stay as they are.

        How many tokens that were. A plan knows; without one, the least recently used goes first,
        and that is what has just been read for the last time only after everything else.
        """
        path = self._own_path(tokens, salt)
        end = sum(len(node.tokens) for node in path)
        gone = 0
        for node in reversed(path):
            start = end - len(node.tokens)
            if end <= keep or node.holds or node.on_host or len(node.children) > bool(gone):
                break
            at = -(-max(keep - start, 0) // self.page_size) * self.page_size
            if at >= len(node.tokens):
                break
            if at:
                self._split(node, at)
            node.unwanted = True
            gone += len(node.tokens)
            self._offer(node, now)
            if at:
                break
            end = start
        return gone

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
        """Drop everything nobody holds, on both tiers; how many device pages that freed."""
        freed = sum(e.pages for e in self.evict(self.allocator.total, now))
        for node in [n for n in self.nodes() if n.on_host and n.parent and not n.parent.on_host]:
            if not node.holds and self.host is not None:
                self._drop_below(node)
                self.host.give(node)
                self._remove(node, now)
        return freed

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
            if child.tokens[0] == tokens[0] and not child.on_host:
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
        parent.on_device += 1
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
        upper.to_host = node.to_host
        parent.children[node.tokens[:size]] = upper
        upper.on_host, upper.on_device = node.on_host, 0 if node.on_host else 1
        node.tokens, node.pages, node.parent = node.tokens[at:], node.pages[at // size :], upper
        node._runs = None
        upper.children[node.tokens[:size]] = node
        if node.on_host and self.host is not None:
            self.host.split(upper, node)
        self.version += 1
        self._node_count += 1
        return upper

    def _hold(self, node: Node, now: float) -> None:
        below: Node | None = node
        while below is not None:
            if below.holds == 0 and not below.on_host:
                self.held_pages += len(below.pages)
                self.cached_pages -= len(below.pages)
            below.holds += 1
            below.hits += 1
            below.unwanted = False
            below.to_host = None
            below.last_used = now
            below = below.parent

    def _evictable(self, node: Node) -> bool:
        return not (node.holds or node.on_device or node.on_host) and bool(node.pages)

    def _offer(self, node: Node, now: float) -> None:
        if self._evictable(node):
            self._push(node, self.value(node, now))

    def _push(self, node: Node, value: Value) -> None:
        if len(self._heap) > 64 + 4 * self._node_count:
            self._heap = [e for e in self._heap if self._evictable(e[2])]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (value, next(self._ids), node))

    def _trim(self, node: Node, need: int, now: float) -> Eviction:
        """Drop or offload the last pages of a leaf, the whole leaf when `need` covers it."""
        count = min(need, len(node.pages))
        keep = len(node.pages) - count
        pinned = node.pinned_until(now) > now
        tokens = len(node.tokens) - keep * self.page_size
        event = Eviction(tokens, count, self.value(node, now), now - node.last_used, pinned)
        self.cached_pages -= count
        if self._goes_to_host(node, now) and self._make_host_room(count, now):
            return self._offload(node, keep, event, now)
        self._drop_below(node)
        if keep:
            self.allocator.give(node.cut(keep, self.page_size))
            self._offer(node, now)
        else:
            self.allocator.give(node.pages)
            self._remove(node, now)
        return event

    def _goes_to_host(self, node: Node, now: float) -> bool:
        if self.host is None:
            return False
        return node.to_host if node.to_host is not None else self.host.worth(node, now)

    def _offload(self, node: Node, keep: int, event: Eviction, now: float) -> Eviction:
        """Move a leaf's last pages to the host tier."""
        assert self.host is not None
        upper = self._split(node, keep * self.page_size) if keep else node.parent
        pages = node.pages
        node.move(self.host.offload(node, now), on_host=True)
        self.allocator.give(pages)
        self.pins.shorten(node, upper)
        if upper is not None:
            self._offer(upper, now)
        return replace(event, offloaded=True)

    def _make_host_room(self, pages: int, now: float) -> bool:
        """Drop the host leaves used longest ago until so many pages are free there."""
        assert self.host is not None
        while self.host.allocator.free < pages:
            leaf = self.host.oldest_leaf()
            if leaf is None:
                return False
            self.host.give(leaf)
            self._remove(leaf, now)
        return True

    def _drop_below(self, node: Node) -> None:
        """Forget the host nodes below a device node that is about to go."""
        for child in list(node.children.values()):
            self._drop_below(child)
            assert self.host is not None and child.on_host
            self.host.give(child)
            self._remove(child, 0.0)

    def _remove(self, node: Node, now: float) -> None:
        """Take a node without children, whose pages are given back, out of the tree."""
        parent = node.parent
        assert parent is not None and not node.children
        del parent.children[node.tokens[: self.page_size]]
        parent.on_device -= not node.on_host
        self._node_count -= 1
        self.pins.shorten(node, parent)
        node.pages, node.parent = [], None
        if not node.on_host:
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
