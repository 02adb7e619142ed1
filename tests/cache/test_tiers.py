"""What moves to the host tier, what comes back, and what is dropped."""

from __future__ import annotations

from collections.abc import Sequence

from plait.cache.host import HostTier
from plait.cache.node import Node
from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree
from plait.cache.tiers import AT_ONCE

from .test_radix import balanced, grow

PAGE = 4


class Moves:
    """Counts copies instead of making them."""

    def __init__(self) -> None:
        self.out: list[int] = []
        self.back: list[int] = []

    def offload(self, device: Sequence[int], host: Sequence[int]) -> None:
        self.out.append(len(device))

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None:
        self.back.append(len(device))


def tree_with(host_pages: int, pages: int = 40) -> tuple[RadixTree, HostTier, Moves]:
    moves = Moves()
    host = HostTier(PageAllocator(host_pages), moves)
    return RadixTree(PageAllocator(pages), PAGE, host=host), host, moves


def tokens(word: int, pages: int) -> list[int]:
    return [word] * (pages * PAGE)


def on_host(tree: RadixTree, wanted: list[int]) -> int:
    found = tree.match(wanted)
    return tree.on_host(found.node, wanted, found.length)


def test_pages_move_together() -> None:
    tree, host, moves = tree_with(40)
    grow(tree, tokens(1, 20))
    (gone,) = tree.evict(1, now=1.0)
    assert moves.out == [AT_ONCE] and gone.pages == AT_ONCE and "moved to the host" in str(gone)
    assert tree.match(tokens(1, 20)).length == (20 - AT_ONCE) * PAGE
    found = tree.acquire(tokens(1, 20), 2.0)
    node, done = tree.restore(found.node, tokens(1, 20), found.length, 2.0, [])
    assert done == 20 * PAGE and moves.back == [AT_ONCE]
    tree.release(node, 3.0)
    assert balanced(tree) and host.allocator.free == 40


def test_what_the_host_could_never_hold_costs_nobody_a_place_there() -> None:
    tree, _, moves = tree_with(4)
    grow(tree, tokens(1, 3), now=1.0)
    tree.evict(3, now=2.0)
    assert on_host(tree, tokens(1, 3)) == 3 * PAGE
    grow(tree, tokens(2, 6), now=3.0)
    tree.evict(6, now=4.0)
    assert moves.out == [3] and tree.match(tokens(2, 6)).length == 0
    assert on_host(tree, tokens(1, 3)) == 3 * PAGE
    assert balanced(tree)


def test_what_was_decided_for_a_node_goes_before_its_worth() -> None:
    """Until somebody uses it again."""
    tree, host, moves = tree_with(40)
    host.worth = lambda node, now: False

    def decide(wanted: list[int], to_host: bool) -> None:
        held = tree.acquire(wanted, 1.0)
        alone: list[Node] = tree.held_alone(held.node)
        assert sum(len(n.tokens) for n in alone) == len(wanted)
        for node in alone:
            node.to_host = to_host
        tree.release(held.node, 1.0)

    grow(tree, tokens(1, 3))
    decide(tokens(1, 3), to_host=True)
    tree.evict(3, now=2.0)
    assert moves.out == [3]
    grow(tree, tokens(2, 3))
    decide(tokens(2, 3), to_host=True)
    tree.release(tree.acquire(tokens(2, 3), 3.0).node, 3.0)  # somebody else
    tree.evict(3, now=4.0)
    assert moves.out == [3]
    host.worth = lambda node, now: True
    grow(tree, tokens(3, 3))
    decide(tokens(3, 3), to_host=False)
    tree.evict(3, now=5.0)
    assert moves.out == [3] and balanced(tree)


def test_what_nobody_will_ask_for_is_dropped_and_not_moved() -> None:
    tree, _, moves = tree_with(40)
    grow(tree, tokens(1, 20))
    assert tree.let_go(tokens(1, 20), 4 * PAGE, 1.0) == 16 * PAGE
    tree.evict(16, now=2.0)
    assert moves.out == [] and tree.match(tokens(1, 20)).length == 4 * PAGE
    tree.evict(4, now=3.0)
    assert moves.out == [4] and balanced(tree)


def test_what_others_hold_is_not_held_alone() -> None:
    tree, _, _ = tree_with(4)
    grow(tree, tokens(1, 2) + tokens(2, 2))
    grow(tree, tokens(1, 2) + tokens(3, 2))
    one = tree.acquire(tokens(1, 2) + tokens(2, 2), 1.0)
    assert sum(len(n.tokens) for n in tree.held_alone(one.node)) == 4 * PAGE
    two = tree.acquire(tokens(1, 2) + tokens(3, 2), 1.0)
    assert sum(len(n.tokens) for n in tree.held_alone(one.node)) == 2 * PAGE
    tree.release(one.node, 2.0)
    tree.release(two.node, 2.0)


def test_the_head_of_a_page_that_is_added_whole_is_freed_and_not_moved() -> None:
    tree, host, moves = tree_with(40)
    grow(tree, list(range(6)))
    grow(tree, list(range(12)))
    assert moves.out == [] and host.allocator.free == 40
    assert balanced(tree)


def test_what_has_parts_on_the_host_is_not_dropped_over_them() -> None:
    tree, host, _ = tree_with(40)
    host.worth = lambda node, now: len(node.tokens) > 10 * PAGE  # shorter ones do not pay
    grow(tree, tokens(1, 20))
    while tree.cached_pages:
        tree.evict(1, now=1.0)
    assert on_host(tree, tokens(1, 20)) == 20 * PAGE
