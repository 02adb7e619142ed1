"""What goes when pages are short: dropped, or moved to the host tier and brought back from there.

All nodes below a host node are host nodes; a request that matches them restores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .host import HostTier
from .node import Eviction, Node
from .page_tree import PageTree
from .pages import PageAllocator
from .paths import host_step
from .value import ValueFunction

AT_ONCE = 8
"""Pages of a leaf that move to the host together at least: few copies instead of many, and as many
fewer nodes to bring back."""


class TieredTree(PageTree):
    """A page tree that can shrink, with or without a host tier."""

    def __init__(
        self,
        allocator: PageAllocator,
        page_size: int,
        value: ValueFunction,
        host: HostTier | None,
    ) -> None:
        super().__init__(allocator, page_size, value)
        self.host = host

    def split(self, node: Node, at: int) -> Node:
        upper = super().split(node, at)
        if node.on_host and self.host is not None:
            self.host.split(upper, node)
        return upper

    # ---- shrinking -------------------------------------------------------------------------

    def evict(self, need: int, now: float) -> list[Eviction]:
        """Free up to `need` cached pages, the least valuable leaves first."""
        self.expire(now)
        gone: list[Eviction] = []
        while need > 0 and (node := self.leaves.take(now)) is not None:
            cut = self.trim(node, need, now)
            need -= cut.pages
            gone.append(cut)
        return gone

    def expire(self, now: float) -> int:
        """Drop the pins whose deadline has passed; how many there were."""
        nodes = self.pins.take_expired(now)
        for node in nodes:
            self.leaves.offer(node, now)
        return len(nodes)

    def clear(self, now: float) -> int:
        """Drop everything nobody holds, on both tiers; how many device pages that freed."""
        freed = sum(e.pages for e in self.evict(self.allocator.total, now))
        for node in [n for n in self.nodes() if n.on_host and n.parent and not n.parent.on_host]:
            if not node.holds and self.host is not None:
                self._drop_below(node)
                self.host.give(node)
                self.remove(node, now)
        return freed

    def trim(self, node: Node, need: int, now: float) -> Eviction:
        """Drop or offload the last pages of a leaf, the whole leaf when `need` covers it."""
        together = min(max(need, AT_ONCE), len(node.pages))
        to_host = self._goes_to_host(node, now) and self._make_host_room(together, now)
        count = together if to_host else min(need, len(node.pages))
        keep = len(node.pages) - count
        pinned = node.pinned_until(now) > now
        tokens = len(node.tokens) - keep * self.page_size
        event = Eviction(tokens, count, self.leaves.value(node, now), now - node.last_used, pinned)
        self.cached_pages -= count
        if to_host:
            return self._offload(node, keep, event, now)
        self._drop_below(node)
        if keep:
            self.allocator.give(node.cut(keep, self.page_size))
            self.leaves.offer(node, now)
        else:
            self.allocator.give(node.pages)
            self.remove(node, now)
        return event

    def _goes_to_host(self, node: Node, now: float) -> bool:
        if self.host is None:
            return False
        if node.children:  # they are on the host, and of no use without it
            return True
        if node.unwanted:
            return False
        return node.to_host if node.to_host is not None else self.host.worth(node, now)

    def _offload(self, node: Node, keep: int, event: Eviction, now: float) -> Eviction:
        """Move a leaf's last pages to the host tier."""
        assert self.host is not None
        upper = self.split(node, keep * self.page_size) if keep else node.parent
        pages = node.pages
        node.move(self.host.offload(node, now), on_host=True)
        self.allocator.give(pages)
        self.pins.shorten(node, upper)
        if upper is not None:
            self.leaves.offer(upper, now)
        return replace(event, offloaded=True)

    def _make_host_room(self, pages: int, now: float) -> bool:
        """Drop the host leaves used longest ago until so many pages are free there."""
        assert self.host is not None
        if pages > self.host.allocator.total:
            return False
        while self.host.allocator.free < pages:
            leaf = self.host.oldest_leaf()
            if leaf is None:
                return False
            self.host.give(leaf)
            self.remove(leaf, now)
        return True

    def _drop_below(self, node: Node) -> None:
        """Forget the host nodes below a device node that is about to go."""
        for child in list(node.children.values()):
            self._drop_below(child)
            assert self.host is not None and child.on_host
            self.host.give(child)
            self.remove(child, 0.0)

    # ---- coming back -----------------------------------------------------------------------

    def on_host(self, node: Node, tokens: Sequence[int], done: int) -> int:
        """How many of `tokens[done:]`, in whole pages, host nodes below `node` hold."""
        start = done
        while (step := host_step(node, tokens, done, self.page_size)) is not None:
            node, whole = step
            done += whole
            if whole < len(node.tokens):
                break
        return done - start

    def restore(
        self, node: Node, tokens: Sequence[int], done: int, now: float, gone: list[Eviction]
    ) -> tuple[Node, int]:
        """Bring host nodes below a held `node` back to the device, as far as there is room.

        Moves the hold down; the node it is on now, and the tokens matched in all. What has to go
        for it is added to `gone`.
        """
        assert self.host is not None
        while (step := host_step(node, tokens, done, self.page_size)) is not None:
            child, whole = step
            need = whole // self.page_size
            if need > self.allocator.free + self.cached_pages:
                break
            child = self.split(child, whole) if whole < len(child.tokens) else child
            self.hold(child, now)
            gone += self.evict(need - self.allocator.free, now)
            pages = self.allocator.take(need)
            self.host.restore(child, pages)
            self.settle(child, pages)
            self.release(node, now)
            node, done = child, done + whole
        return node, done

    def settle(self, node: Node, pages: list[int]) -> None:
        """A host node's KV is on the device now, in these pages."""
        assert self.host is not None
        self.host.give(node)
        node.move(pages, on_host=False)
        if node.holds:
            self.held_pages += len(pages)
        else:
            self.cached_pages += len(pages)
