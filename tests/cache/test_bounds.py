"""What the cache remembers is bounded by what it holds, not by how much has come and gone."""

from __future__ import annotations

from collections.abc import Sequence

from plait.cache.host import HostTier
from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree

PAGE = 4
ROUNDS = 2_000
FEW = 200


class NoMover:
    def offload(self, device: Sequence[int], host: Sequence[int]) -> None: ...

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None: ...


def serve(tree: RadixTree, tokens: list[int], now: float, salt: str = "") -> int:
    """A request from beginning to end; how many tokens it found, on the device or the host."""
    found = tree.acquire(tokens, now, salt)
    node, done = found.node, found.length
    if tree.host is not None:
        node, done = tree.restore(node, tokens, done, now, [])
    need = -(-(len(tokens) - done) // PAGE)
    tree.evict(need - tree.allocator.free, now)
    node = tree.extend(node, tokens[done:], tree.allocator.take(need), now)
    tree.release(node, now)
    return done


def test_a_prompt_that_comes_again_and_again() -> None:
    tree = RadixTree(PageAllocator(16), PAGE)
    prompts = [[i] * 8 for i in range(3)]
    for i in range(ROUNDS):
        serve(tree, prompts[i % 3], float(i))
    assert len(tree.leaves._heap) < FEW
    gone = tree.evict(16, float(ROUNDS))
    assert [e.idle for e in gone] == [3.0, 2.0, 1.0]  # each once, and still in order


def test_tenants_that_have_gone() -> None:
    tree = RadixTree(PageAllocator(16), PAGE)
    for i in range(ROUNDS):
        serve(tree, [1] * 8, float(i), f"tenant {i}")
        tree.match([2] * 8, f"somebody who only asks {i}")
    assert len(tree._roots) < FEW
    assert serve(tree, [1] * 8, float(ROUNDS), f"tenant {ROUNDS - 1}") == 8
    assert serve(tree, [1] * 8, float(ROUNDS), "another") == 0


def test_pins_that_have_ended() -> None:
    tree = RadixTree(PageAllocator(16), PAGE)
    serve(tree, [1] * 8, 0.0)
    for i in range(ROUNDS):
        assert tree.pin([1] * 8, i + 3.5, float(i)) is not None  # runs out
        dropped = tree.pin([1] * 8, float("inf"), float(i))
        assert dropped is not None and tree.unpin(dropped, float(i))
    assert len(tree.live_pins(ROUNDS - 0.6)) == 4 == len(tree.pins)
    assert tree.pins.expired == ROUNDS - 4
    assert tree.live_pins(ROUNDS + 3.0) == []
    assert len(tree.pins._expiries) < FEW


def test_kv_that_goes_to_the_host_and_comes_back() -> None:
    host = HostTier(PageAllocator(100), NoMover())
    tree = RadixTree(PageAllocator(4), PAGE, host=host)
    prompts = [[i] * 12 for i in range(3)]
    found = [serve(tree, prompts[i % 3], float(i)) for i in range(ROUNDS)]
    assert found[3:] == [12] * (ROUNDS - 3)
    assert host.offloaded_pages > ROUNDS
    assert len(host._ages) < FEW
    oldest = host.oldest_leaf()
    assert oldest is not None and oldest.tokens[0] == (ROUNDS - 3) % 3
