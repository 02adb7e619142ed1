"""The prefix tree: which token sequences have KV in the pool, and who is using it.

An edge holds tokens and the pages they fill. Edges meet at page borders, so a node's pages belong
to it alone. Only a leaf may end inside a page; a match that ends inside a page is served by copying
those few slots into a page of the asker's own, so hits count to the token.

Every page is in one of three states, and `free + cached + held == total` always:
    free      in the allocator
    cached    in a node nobody holds: kept for later, may be evicted
    held      in a node on the path of a running request, or private to one
A pin is softer than a hold: it makes eviction prefer others until its deadline.

With a host tier, an evicted leaf may move its KV to host memory and stay in the tree; see `tiers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .host import HostTier
from .node import Match, Node
from .pages import PageAllocator
from .paths import common, longest, near, own_path
from .pins import Pin
from .tiers import TieredTree
from .value import ValueFunction, least_recently_used


class RadixTree(TieredTree):
    """The prefix tree over one KV pool. Plain bookkeeping: time is passed in, KV is elsewhere."""

    def __init__(
        self,
        allocator: PageAllocator,
        page_size: int,
        value: ValueFunction = least_recently_used,
        host: HostTier | None = None,
    ) -> None:
        super().__init__(allocator, page_size, value, host)

    # ---- looking up ------------------------------------------------------------------------

    def match(self, tokens: Sequence[int], salt: str = "") -> Match:
        """The longest cached prefix. Changes nothing."""
        return longest(self.root(salt), tokens, self.page_size)

    def acquire(self, tokens: Sequence[int], now: float, salt: str = "") -> Match:
        """Match and hold: the matched pages stay until `release` of the match's node."""
        found = self.match(tokens, salt)
        node = found.node
        if node.parent is not None and found.inside < len(node.tokens):
            node = self.split(node, found.inside)
        self.hold(node, now)
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
            same = common(child.tokens, tokens, done)
            whole = same if same == len(child.tokens) == len(tokens) - done else same - same % size
            if whole < len(child.tokens):
                child = self.split(child, whole)
            mine = pages[done // size : -(-(done + whole) // size)]
            if child.on_host:
                self.settle(child, list(mine))
            else:
                self.allocator.give(mine)
            below, done = child, done + whole
        self.hold(below, now)
        self.release(node, now)
        return below

    def _add_rest(
        self, parent: Node, tokens: Sequence[int], pages: Sequence[int], now: float
    ) -> Node:
        """Add tokens no child starts with, unless they are the head of a child's first page."""
        if len(tokens) < self.page_size and near(parent, tokens)[1] == len(tokens):
            self.allocator.give(pages)
            return parent
        self._drop_heads(parent, tuple(tokens[: self.page_size]), now)
        return self.add(parent, tokens, pages, now)

    def _drop_heads(self, parent: Node, first: tuple[int, ...], now: float) -> None:
        """Free children that hold only the head of a page about to be added whole."""
        for length in range(1, min(len(first), self.page_size - 1) + 1):
            head = parent.children.get(first[:length])
            if head is not None and head.evictable and not head.pins:
                head.to_host = False  # the page says the same, and more
                self.trim(head, len(head.pages), now)

    # ---- wishes ----------------------------------------------------------------------------

    def pin(self, tokens: Sequence[int], until: float, now: float, salt: str = "") -> int | None:
        """Ask that the cached prefix of these tokens stays until a deadline. Soft.

        None when the deadline has passed, or nothing of it is cached.
        """
        self.expire(now)
        found = self.match(tokens, salt)
        if until <= now or found.length == 0 or found.node.parent is None:
            return None
        node = found.node
        if found.inside < len(node.tokens) and found.inside:
            node = self.split(node, found.inside)
        number = self.pins.add(node, until)
        self.leaves.offer(node, now)
        return number

    def unpin(self, number: int, now: float) -> bool:
        """Drop a pin; False when it had run out, or its pages had to go."""
        node = self.pins.drop(number)
        if node is not None:
            self.leaves.offer(node, now)
        return node is not None

    def live_pins(self, now: float) -> list[Pin]:
        """Pins that have not ended, the next to end first."""
        self.expire(now)
        return self.pins.live()

    def let_go(self, tokens: Sequence[int], keep: int, now: float, salt: str = "") -> int:
        """Nobody will ask for what lies behind the first `keep` of these tokens: it is evicted
        before anything else. Nodes in use, or with others below them, stay as they are.

        How many tokens that were. A plan knows; without one, the least recently used goes first,
        and that is what has just been read for the last time only after everything else.
        """
        path = own_path(self.root(salt), tokens, self.page_size)
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
                self.split(node, at)
            node.unwanted = True
            gone += len(node.tokens)
            self.leaves.offer(node, now)
            if at:
                break
            end = start
        return gone
