"""The prefix tree under 100,000 random operations, against a model that cannot be wrong.

The model of a KV pool is a list that says, for every slot, which prefix its KV belongs to. Whatever
the tree hands out must hold exactly the prefix that was asked for.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from plait.cache.host import HostTier
from plait.cache.node import Node
from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree

PAGE = 4
PAGES = 48
HOST_PAGES = 20
WORDS = 3
OPERATIONS = 100_000


def meaning(salt: str, tokens: list[int]) -> int:
    return hash((salt, tuple(tokens)))


@dataclass
class Holder:
    """A request as the tree sees it."""

    salt: str
    tokens: list[int]
    node: Node
    shared: int
    pages: list[int] = field(default_factory=list)
    computed: int = 0


class Play:
    """Random requests on one tree, each step checked."""

    def __init__(self, seed: int, host: bool) -> None:
        self.rng = random.Random(seed)
        self.host = HostTier(PageAllocator(HOST_PAGES), self, self.worth) if host else None
        self.tree = RadixTree(PageAllocator(PAGES), PAGE, host=self.host)
        self.kv = [0] * (PAGES * PAGE)
        self.host_kv = [0] * (HOST_PAGES * PAGE)
        self.holders: list[Holder] = []
        self.pins: list[int] = []
        self.sequences: list[tuple[str, list[int]]] = [("", [0])]
        self.now = 0.0
        self.hits = self.evicted = self.copied = self.pinned = 0

    def worth(self, node: Node, now: float) -> bool:
        return self.rng.random() < 0.8

    def offload(self, device: Sequence[int], host: Sequence[int]) -> None:
        for a, b in zip(device, host, strict=True):
            self.host_kv[b * PAGE : b * PAGE + PAGE] = self.kv[a * PAGE : a * PAGE + PAGE]

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None:
        for a, b in zip(host, device, strict=True):
            self.kv[b * PAGE : b * PAGE + PAGE] = self.host_kv[a * PAGE : a * PAGE + PAGE]

    def sequence(self) -> tuple[str, list[int]]:
        """A new sequence, often one that goes on from, or leaves, an old one."""
        rng = self.rng
        salt, old = rng.choice(self.sequences)
        tokens = old[: rng.randrange(len(old) + 1)]
        tokens = tokens + [rng.randrange(WORDS) for _ in range(rng.randrange(1, 14))]
        tokens = tokens[:40]
        if rng.random() < 0.1:
            salt = rng.choice(["", "a", "b"])
        self.sequences.append((salt, tokens))
        if len(self.sequences) > 60:
            self.sequences.pop(rng.randrange(60))
        return salt, tokens

    def slots(self, pages: list[int], count: int) -> list[int]:
        return [pages[i // PAGE] * PAGE + i % PAGE for i in range(count)]

    def check_path(self, holder: Holder) -> None:
        done = 0
        for node in holder.node.path():
            for i, slot in enumerate(self.slots(node.pages, len(node.tokens))):
                assert self.kv[slot] == meaning(holder.salt, holder.tokens[: done + i + 1])
            done += len(node.tokens)
        assert done == holder.shared

    def admit(self) -> None:
        salt, tokens = self.sequence()
        before = self.tree.match(tokens, salt)
        found = self.tree.acquire(tokens, self.now, salt)
        assert (before.length, before.copy_length) == (found.length, found.copy_length)
        node, length = found.node, found.length
        if self.host and self.tree.on_host(node, tokens, length) and self.rng.random() < 0.7:
            node, length = self.tree.restore(node, tokens, length, self.now, [])
        holder = Holder(salt, tokens, node, length, computed=length)
        need = -(-(len(tokens) - length) // PAGE)
        if need > self.tree.allocator.free + self.tree.cached_pages:
            self.tree.release(node, self.now)
            return
        lack = need - self.tree.allocator.free
        if lack > 0:
            self.evicted += len(self.tree.evict(lack, self.now))
        holder.pages = self.tree.allocator.take(need)
        again = self.tree.match(tokens, salt)
        if again.length == length and again.copy_page is not None:
            source, target = again.copy_page * PAGE, holder.pages[0] * PAGE
            for i in range(again.copy_length):
                self.kv[target + i] = self.kv[source + i]
                wanted = meaning(salt, tokens[: length + i + 1])
                assert self.kv[target + i] == wanted
            holder.computed += again.copy_length
            self.copied += 1
        self.hits += found.length > 0
        self.check_path(holder)
        self.holders.append(holder)

    def compute(self) -> None:
        """Some more of a request's tokens, put into the tree page by page."""
        if not self.holders:
            return
        holder = self.rng.choice(self.holders)
        end = min(len(holder.tokens), holder.computed + self.rng.randrange(1, 9))
        slots = self.slots(holder.pages, end - holder.shared)
        for position in range(holder.computed, end):
            self.kv[slots[position - holder.shared]] = meaning(
                holder.salt, holder.tokens[: position + 1]
            )
        holder.computed = end
        self.share(holder, end - end % PAGE)

    def share(self, holder: Holder, end: int) -> None:
        if end <= holder.shared:
            return
        count = -(-(end - holder.shared) // PAGE)
        part = holder.tokens[holder.shared : end]
        holder.node = self.tree.extend(holder.node, part, holder.pages[:count], self.now)
        holder.pages = holder.pages[count:]
        holder.shared = end
        if end % PAGE == 0:
            self.check_path(holder)

    def finish(self) -> None:
        if not self.holders:
            return
        holder = self.holders.pop(self.rng.randrange(len(self.holders)))
        if self.rng.random() < 0.2:  # it gives way, and what has to go is decided
            for node in self.tree.held_alone(holder.node):
                node.to_host = self.rng.random() < 0.5
        if self.rng.random() < 0.8:
            self.share(holder, holder.computed)
        self.tree.allocator.give(holder.pages)
        self.tree.release(holder.node, self.now)

    def pin(self) -> None:
        salt, tokens = self.rng.choice(self.sequences)
        pin = self.tree.pin(tokens, self.now + self.rng.random() * 50, self.now, salt)
        if pin is not None:
            self.pins.append(pin)
            self.pinned += 1

    def unpin(self) -> None:
        if self.pins:
            self.tree.unpin(self.pins.pop(self.rng.randrange(len(self.pins))), self.now)

    def evict(self) -> None:
        tree, before = self.tree, self.tree.allocator.free
        tree.expire(self.now)
        values = [tree.leaves.value(n, self.now) for n in tree.nodes() if n.evictable]
        gone = tree.evict(self.rng.randrange(6), self.now)
        assert not gone or gone[0].value == min(values)
        assert tree.allocator.free == before + sum(e.pages for e in gone)
        self.evicted += len(gone)

    def check(self) -> None:
        tree = self.tree
        mine = [page for holder in self.holders for page in holder.pages]
        nodes = list(tree.nodes())
        owned = [page for node in nodes if not node.on_host for page in node.pages]
        free = [p for start, n in tree.allocator.extents() for p in range(start, start + n)]
        assert sorted(mine + owned + free) == list(range(PAGES))
        assert len(free) == tree.allocator.free
        held = {id(n) for holder in self.holders for n in holder.node.path()}
        for node in nodes:
            assert (node.holds > 0) == (id(node) in held)
            assert node.on_device == sum(not c.on_host for c in node.children.values())
            assert not (node.on_host and node.on_device)
            assert not (node.on_host and node.pins)
        pinned = {number for node in nodes for number in node.pins}
        assert pinned == {pin.number for pin in tree.pins.live()}
        assert tree.held_pages == sum(len(n.pages) for n in nodes if n.holds)
        cached = sum(len(n.pages) for n in nodes if not n.holds and not n.on_host)
        assert tree.cached_pages == cached
        if self.host:
            there = [page for node in nodes if node.on_host for page in node.pages]
            pool = self.host.allocator
            away = [p for start, n in pool.extents() for p in range(start, start + n)]
            assert sorted(there + away) == list(range(HOST_PAGES))
        assert len(free) + len(mine) + tree.held_pages + tree.cached_pages == PAGES

    def run(self, operations: int) -> None:
        actions = [self.admit, self.compute, self.finish, self.pin, self.unpin, self.evict]
        weights = [20, 50, 18, 4, 3, 1]
        for number, action in enumerate(self.rng.choices(actions, weights, k=operations)):
            self.now += self.rng.random()
            action()
            pool = self.tree.allocator
            private = sum(len(h.pages) for h in self.holders)
            tree = self.tree
            assert pool.free + tree.cached_pages + tree.held_pages + private == PAGES
            if number % 50 == 0:
                self.check()


@pytest.mark.parametrize("host", [False, True])
def test_a_hundred_thousand_operations(host: bool) -> None:
    play = Play(1, host)
    play.run(OPERATIONS)
    assert min(play.hits, play.evicted, play.copied, play.pinned) > 1000
    while play.holders:
        play.finish()
    if play.host:
        assert min(play.host.offloaded_pages, play.host.restored_pages) > 1000
        play.host.worth = lambda node, now: False
    play.tree.clear(play.now)
    play.check()
    assert play.tree.allocator.extents() == [(0, PAGES)]
    assert play.host is None or play.host.allocator.free == HOST_PAGES


def test_nothing_cached_is_missed() -> None:
    """With room for everything, every token seen before is found."""
    rng = random.Random(2)
    for _ in range(60):
        tree = RadixTree(PageAllocator(2000), PAGE)
        known: set[tuple[int, ...]] = set()
        for _ in range(40):
            tokens = [rng.randrange(2) for _ in range(rng.randrange(1, 30))]
            wanted = next((n for n in range(len(tokens), 0, -1) if tuple(tokens[:n]) in known), 0)
            found = tree.acquire(tokens, 0.0)
            assert found.total == wanted
            rest = tokens[found.length :]
            pages = tree.allocator.take(-(-len(rest) // PAGE))
            node = tree.extend(found.node, rest, pages, 0.0)
            tree.release(node, 0.0)
            known |= {tuple(tokens[: n + 1]) for n in range(len(tokens))}
