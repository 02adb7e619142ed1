"""What a plan says nobody will ask for goes first, and only that."""

from __future__ import annotations

import random

from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree

PAGE = 4


def tree_of(pages: int = 32) -> RadixTree:
    return RadixTree(PageAllocator(pages), PAGE)


def put(tree: RadixTree, tokens: list[int], now: float) -> None:
    """A request that computes these tokens and ends."""
    found = tree.acquire(tokens, now)
    left = tokens[found.length :]
    pages = tree.allocator.take(-(-len(left) // PAGE)) if left else []
    tree.release(tree.extend(found.node, left, pages, now) if left else found.node, now)


def cached(tree: RadixTree, tokens: list[int]) -> int:
    return tree.match(tokens).length


DOCUMENT = list(range(100, 116))


def test_the_tail_that_was_just_used_goes_before_an_older_document() -> None:
    tree = tree_of()
    put(tree, list(range(8)), 1.0)
    put(tree, [*DOCUMENT, 1, 2, 3, 4], 2.0)
    assert tree.let_go([*DOCUMENT, 1, 2, 3, 4], len(DOCUMENT), 2.0) == 4
    tree.evict(1, 3.0)
    assert cached(tree, [*DOCUMENT, 1, 2, 3, 4]) == len(DOCUMENT)
    assert cached(tree, list(range(8))) == 8
    tree.evict(1, 3.0)  # now by last use
    assert cached(tree, list(range(8))) == 4


def test_whole_paths_and_what_is_in_use() -> None:
    tree = tree_of()
    put(tree, [*DOCUMENT, 1, 2, 3, 4], 1.0)
    put(tree, [*DOCUMENT, 5, 6, 7, 8], 2.0)
    held = tree.acquire([*DOCUMENT, 5, 6, 7, 8], 3.0)
    assert tree.let_go([*DOCUMENT, 5, 6, 7, 8], 0, 3.0) == 0
    assert tree.let_go([*DOCUMENT, 1, 2, 3, 4], 0, 3.0) == 4  # the document has another below it
    tree.release(held.node, 4.0)
    tree.evict(1, 4.0)
    assert cached(tree, [*DOCUMENT, 1, 2, 3, 4]) == len(DOCUMENT)
    assert tree.let_go([*DOCUMENT, 5, 6, 7, 8], 0, 5.0) == 20


def test_the_border_is_rounded_up_to_a_page() -> None:
    tree = tree_of()
    put(tree, DOCUMENT, 1.0)
    assert tree.let_go(DOCUMENT, 5, 1.0) == 8
    assert tree.let_go(DOCUMENT, 15, 1.0) == 0
    tree.evict(2, 2.0)
    assert cached(tree, DOCUMENT) == 8


def test_who_asks_again_makes_it_wanted() -> None:
    tree = tree_of()
    put(tree, list(range(8)), 1.0)
    put(tree, DOCUMENT, 2.0)
    tree.let_go(DOCUMENT, 0, 2.0)
    put(tree, DOCUMENT, 3.0)
    tree.evict(2, 4.0)
    assert cached(tree, DOCUMENT) == len(DOCUMENT) and cached(tree, list(range(8))) == 0


def test_both_parts_of_what_is_cut_are_let_go() -> None:
    tree = tree_of()
    put(tree, list(range(8)), 1.0)
    put(tree, DOCUMENT, 2.0)
    tree.let_go(DOCUMENT, 0, 2.0)
    pin = tree.pin(DOCUMENT[:8], 9.0, 3.0)
    assert pin is not None and tree.unpin(pin, 3.0)
    tree.evict(4, 4.0)
    assert cached(tree, DOCUMENT) == 0 and cached(tree, list(range(8))) == 8


def test_pages_are_accounted_whatever_is_let_go() -> None:
    rng = random.Random(3)
    tree = tree_of(24)
    known: list[list[int]] = [[0, 1, 2, 3]]
    for step in range(3_000):
        now = float(step)
        start = rng.choice(known)
        tokens = start[: rng.randrange(len(start) + 1)] + [
            rng.randrange(3) for _ in range(rng.randrange(1, 9))
        ]
        lack = -(-len(tokens) // PAGE) - tree.allocator.free
        if lack > 0:
            tree.evict(lack, now)
        if -(-len(tokens) // PAGE) <= tree.allocator.free:
            put(tree, tokens, now)
            known = [*known[-20:], tokens]
        tokens = rng.choice(known)
        before = cached(tree, tokens)
        gone = tree.let_go(tokens, rng.randrange(len(tokens) + 1), now)
        assert 0 <= gone <= len(tokens) and cached(tree, tokens) == before
        assert tree.allocator.free + tree.cached_pages + tree.held_pages == 24
        assert tree.held_pages == 0
        assert sum(len(n.pages) for n in tree.nodes()) == tree.cached_pages
