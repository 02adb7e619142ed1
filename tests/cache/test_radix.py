from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree


def grow(tree: RadixTree, tokens: list[int], now: float = 0.0, salt: str = "") -> int:
    """What an engine does for one prompt: match, compute the rest, put it in the tree."""
    found = tree.acquire(tokens, now, salt)
    rest = tokens[found.length :]
    pages = tree.allocator.take(-(-len(rest) // tree.page_size))
    node = tree.extend(found.node, rest, pages, now)
    tree.release(node, now)
    return found.total


def balanced(tree: RadixTree) -> bool:
    pool = tree.allocator
    return pool.free + tree.cached_pages + tree.held_pages == pool.total


def test_a_prefix_is_found_to_the_token() -> None:
    tree = RadixTree(PageAllocator(64), 4)
    assert grow(tree, list(range(10))) == 0
    assert tree.match(list(range(10))).total == 10
    assert tree.match([0, 1, 2, 3, 4, 5, 99]).total == 6
    assert tree.match([7, 8]).total == 0
    assert grow(tree, list(range(20))) == 10
    assert tree.match(list(range(30))).total == 20
    assert balanced(tree)


def test_the_head_of_a_page_gives_way_to_the_whole_page() -> None:
    tree = RadixTree(PageAllocator(64), 4)
    grow(tree, list(range(6)))
    grow(tree, list(range(12)))
    assert tree.cached_pages == 3
    grow(tree, list(range(7)))
    assert tree.cached_pages == 3


def test_salts_do_not_see_each_other() -> None:
    tree = RadixTree(PageAllocator(64), 4)
    grow(tree, list(range(8)), salt="a")
    assert tree.match(list(range(8)), salt="b").total == 0
    assert tree.match(list(range(8)), salt="a").total == 8


def test_the_least_recently_used_leaf_goes_first_and_held_pages_stay() -> None:
    tree = RadixTree(PageAllocator(6), 4)
    grow(tree, [1] * 8, now=1.0)
    grow(tree, [2] * 8, now=2.0)
    held = tree.acquire([1] * 8, now=3.0)
    tree.evict(4, now=4.0)
    assert tree.match([2] * 8).total == 0
    assert tree.match([1] * 8).total == 8
    tree.release(held.node, 5.0)
    assert balanced(tree)


def test_a_pin_outlives_newer_leaves_until_its_deadline() -> None:
    tree = RadixTree(PageAllocator(8), 4)
    grow(tree, [1] * 8, now=1.0)
    grow(tree, [2] * 8, now=2.0)
    assert tree.pin([1] * 8, until=10.0, now=2.0) is not None
    tree.evict(1, now=3.0)
    assert tree.match([2] * 8).total < 8
    assert tree.match([1] * 8).total == 8
    grow(tree, [3] * 4, now=11.0)
    tree.evict(2, now=12.0)
    assert tree.match([1] * 8).total < 8
    assert tree.match([3] * 4).total == 4


def test_a_pin_that_is_cut_short_keeps_what_is_left() -> None:
    tree = RadixTree(PageAllocator(4), 4)
    grow(tree, [1] * 4, now=1.0)
    grow(tree, [1] * 4 + [2] * 8, now=2.0)
    pin = tree.pin([1] * 4 + [2] * 8, until=10.0, now=2.0)
    assert pin is not None and [p.tokens for p in tree.pins.live()] == [12]
    assert "although pinned" in str(tree.evict(2, now=3.0)[0])
    assert [p.tokens for p in tree.pins.live()] == [4]
    assert tree.pins.live()[0].told(now=4.0) == f"pin {pin} keeps 4 tokens for 6.0 s more"
    tree.evict(1, now=5.0)
    assert (len(tree.pins), tree.pins.broken) == (0, 1)
    assert not tree.unpin(pin, now=5.0)


def test_pins_run_out_and_past_deadlines_are_none() -> None:
    tree = RadixTree(PageAllocator(8), 4)
    grow(tree, [1] * 8, now=1.0)
    assert tree.pin([1] * 8, until=2.0, now=2.0) is None
    assert tree.pin([5] * 8, until=9.0, now=2.0) is None
    first, second = (tree.pin([1] * 8, until, now=2.0) for until in (3.0, 4.0))
    assert first is not None and second is not None and tree.unpin(second, now=2.5)
    assert tree.expire(now=3.0) == 1
    assert (tree.pins.made, tree.pins.expired, tree.pins.broken) == (2, 1, 0)


def test_a_split_keeps_the_pin_at_the_end() -> None:
    tree = RadixTree(PageAllocator(8), 4)
    grow(tree, [1] * 12, now=1.0)
    tree.pin([1] * 12, until=10.0, now=1.0)
    grow(tree, [1] * 4 + [2] * 8, now=2.0)
    assert [p.tokens for p in tree.pins.live()] == [12]
