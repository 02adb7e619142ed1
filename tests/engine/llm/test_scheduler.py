"""The scheduler and the step plan without a model: a pool that remembers what its slots mean."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from plait.cache.host import HostTier, Worth, always
from plait.cache.node import Node
from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree
from plait.dag.sampling import Sampling
from plait.engine.llm.attention.plan import Layout, lay_out
from plait.engine.llm.costs import Costs
from plait.engine.llm.request import Chunk, Request
from plait.engine.llm.scheduler import Limits, Preemption, Scheduler

PAGE = 4
QUICK_MOVES = Costs(token=1.0, kv_bytes=1)
"""Computing takes a second a token, moving next to nothing."""
SLOW_MOVES = Costs(token=1e-3, kv_bytes=1, offload=1.0, restore=1.0)


def meaning(request: Request, position: int) -> int:
    return hash((request.salt, tuple(request.tokens[: position + 1])))


class Sim:
    """A model that answers token 7, and checks what it is given to read."""

    def __init__(
        self,
        pages: int,
        host_pages: int = 0,
        batch_tokens: int = 64,
        running: int = 8,
        costs: Costs = QUICK_MOVES,
        worth: Worth = always,
        prefix_cache: bool = True,
    ) -> None:
        self.kv = [0] * (pages * PAGE)
        self.host_kv = [0] * (host_pages * PAGE)
        host = HostTier(PageAllocator(host_pages), self, worth) if host_pages else None
        self.tree = RadixTree(PageAllocator(pages), PAGE, host=host)
        limits = Limits(batch_tokens, running, prefix_cache)
        self.scheduler = Scheduler(self.tree, limits, self, costs)
        self.now = 0.0
        self.numbers = 0
        self.computed = 0
        self.finished: list[Request] = []
        self.layouts: list[Layout] = []
        self.last: tuple[Layout | None, int] = (None, 0)
        self.advanced = 0

    def copy(self, source: int, target: int, slots: int) -> None:
        a, b = source * PAGE, target * PAGE
        self.kv[b : b + slots] = self.kv[a : a + slots]

    def offload(self, device: Sequence[int], host: Sequence[int]) -> None:
        for a, b in zip(device, host, strict=True):
            self.host_kv[b * PAGE : b * PAGE + PAGE] = self.kv[a * PAGE : a * PAGE + PAGE]

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None:
        for a, b in zip(host, device, strict=True):
            self.kv[b * PAGE : b * PAGE + PAGE] = self.host_kv[a * PAGE : a * PAGE + PAGE]

    def ask(self, prompt: list[int], out: int = 3, **more: object) -> Request:
        self.numbers += 1
        length = len(prompt) + out
        request = Request(
            number=self.numbers,
            prompt=tuple(prompt),
            sampling=Sampling(max_tokens=out),
            seed=0,
            arrival=self.now,
            limit=length,
            **{"expected": length, **more},  # type: ignore[arg-type]
        )
        self.scheduler.add(request)
        return request

    def step(self) -> list[Chunk]:
        self.now += 1.0
        chunks = self.scheduler.schedule(self.now)
        assert sum(c.count for c in chunks) <= self.scheduler.limits.batch_tokens
        assert len(self.scheduler.running) <= self.scheduler.limits.running
        layout = self.lay_out(chunks)
        self.layouts.append(layout)
        self.write(layout)
        self.check_reads(layout)
        self.computed += layout.rows
        ready = [c.request for c in chunks if c.samples]
        self.scheduler.commit(chunks, self.now)
        for request in ready:
            request.tokens.append(7)
            if len(request.tokens) == request.limit:
                self.scheduler.remove(request, self.now)
                self.finished.append(request)
        self.balance()
        return chunks

    def lay_out(self, chunks: list[Chunk]) -> Layout:
        """As the step loop does: on from the last layout when only decoding has happened."""
        last, changes = self.last
        steady = last is not None and changes == self.scheduler.changes
        if steady and last and last.grown < last.horizon and len(chunks) == last.rows:
            layout = last.advance(chunks)
            self.advanced += 1
        else:
            layout = lay_out(chunks, self.tree.version, PAGE)
        self.last = layout, self.scheduler.changes
        return layout

    def write(self, layout: Layout) -> None:
        for chunk in layout.chunks:
            request = chunk.request
            at = chunk.start
            for start, length in request.runs(at, chunk.end, PAGE):
                for slot in range(start, start + length):
                    self.kv[slot] = meaning(request, at)
                    at += 1

    def check_reads(self, layout: Layout) -> None:
        """Every row sees each position up to its own once, and what lies there is its own."""
        row = -1
        for chunk in layout.chunks:
            request = chunk.request
            for position in range(chunk.start, chunk.end):
                row += 1
                seen: list[int] = []
                for item in layout.items:
                    if item.row <= row < item.row + item.rows:
                        slots = [s for a, n in item.runs for s in range(a, a + n)]
                        assert len(slots) == item.length
                        if item.causal:
                            slots = slots[: row - item.row + 1]
                        for i, slot in enumerate(slots):
                            assert self.kv[slot] == meaning(request, item.position + i)
                            seen.append(item.position + i)
                assert sorted(seen) == list(range(position + 1))

    def balance(self) -> None:
        pool = self.tree.allocator
        private = sum(len(r.pages) for r in self.scheduler.running)
        assert pool.free + self.tree.cached_pages + self.tree.held_pages + private == pool.total

    def run(self, limit: int = 10_000) -> None:
        for _ in range(limit):
            if not self.scheduler.running and not self.scheduler.waiting:
                return
            assert self.step(), "a step did nothing while somebody waits"
        raise AssertionError("the requests did not finish")


def test_a_common_new_prefix_is_computed_once() -> None:
    sim = Sim(pages=200, batch_tokens=200)
    head = list(range(100, 140))
    for i in range(6):
        sim.ask([*head, i, i, i, i], out=1)
    sim.run()
    assert sim.computed == 40 + 6 * 4
    assert len(sim.layouts) == 2, "the others should run together right after the first"


def test_what_of_a_page_is_common_is_computed_once() -> None:
    sim = Sim(pages=200, batch_tokens=200)
    head = list(range(100, 142))
    for i in range(6):
        sim.ask([*head, i], out=3)
    sim.run()
    assert sim.computed == 42 + 6 * (1 + 2), "and the newest of three tokens is not computed"


@pytest.mark.parametrize("length", [2, 3, 4, 5, 7, 8])
def test_of_equal_prompts_the_last_token_is_computed_for_each(length: int) -> None:
    sim = Sim(pages=200, batch_tokens=200)
    for _ in range(5):
        sim.ask([1] * length, out=3)
    sim.ask([1] * length, out=3, salt="x")
    sim.run()
    assert sim.computed == (length + 4) + length + 6 * 2
    assert len(sim.layouts) == 4, "the others go one step behind the first"
    alone = Sim(pages=200, batch_tokens=200, prefix_cache=False)
    for _ in range(5):
        alone.ask([1] * length, out=3)
    alone.run()
    assert alone.computed == 5 * (length + 2)


def test_requests_that_share_nothing_do_not_wait() -> None:
    sim = Sim(pages=200, batch_tokens=200)
    for i in range(5):
        sim.ask([i] * 20, out=1)
    sim.run()
    assert len(sim.layouts) == 1


def test_one_read_of_a_shared_run_serves_all_rows_below_it() -> None:
    sim = Sim(pages=200, batch_tokens=400)
    head = list(range(100, 140))
    for i in range(5):
        sim.ask([*head, i, i], out=4)
    sim.run()
    last = sim.layouts[-1]
    assert last.distinct_read == 40 + sum(c.end - 40 for c in last.chunks)
    assert last.total_read == sum(c.end for c in last.chunks)


def test_long_prompts_go_in_chunks_beside_decode() -> None:
    sim = Sim(pages=200, batch_tokens=16)
    first = sim.ask([1] * 8, out=12)
    sim.step()
    sim.ask([2] * 100, out=2)
    before = first.generated
    for _ in range(5):
        assert sum(c.count for c in sim.step()) == 16
    assert first.generated == before + 5


def test_a_long_prompt_that_comes_first_does_not_hold_up_decoding() -> None:
    sim = Sim(pages=200, batch_tokens=16)
    others = [sim.ask([i] * 5, out=12) for i in range(3)]
    sim.step()
    sim.ask([9] * 100, out=2, priority=50.0)
    sim.step()
    before = [r.generated for r in others]
    for _ in range(4):
        assert sum(c.count for c in sim.step()) == 16
    assert [r.generated for r in others] == [n + 4 for n in before]


def test_those_who_decode_leave_room_for_a_prompt() -> None:
    sim = Sim(pages=200, batch_tokens=3, running=8)
    for i in range(3):
        sim.ask([i], out=40)
    while len(sim.scheduler.running) < 3:
        sim.step()
    urgent = sim.ask([9] * 6, out=1, priority=50.0)
    for _ in range(45):
        sim.step()
    assert urgent in sim.finished


def test_priority_goes_first_but_waiting_counts() -> None:
    sim = Sim(pages=200, running=1)
    old = sim.ask([1] * 4)
    sim.now += 100
    sim.ask([2] * 4, priority=5.0)
    urgent = sim.ask([3] * 4, priority=20.0)
    sim.run()
    assert sim.finished[0] is urgent
    assert sim.finished[1] is old, "a hundred seconds of waiting outweigh a priority of five"


def test_preempted_requests_finish_with_the_same_tokens() -> None:
    sim = Sim(pages=12, running=4)
    for i in range(4):
        sim.ask([i] * 9, out=12, expected=9)
    sim.run()
    assert len(sim.finished) == 4
    assert sim.scheduler.preemptions > 0
    assert any("gave way" in str(event) for event in sim.scheduler.holdings.log)


def crowd(costs: Costs, host_pages: int) -> Sim:
    """Four requests that outgrow the memory; only preempted KV may go to the host."""

    def never(node: Node, now: float) -> bool:
        return False

    sim = Sim(pages=12, host_pages=host_pages, running=4, costs=costs, worth=never)
    for i in range(4):
        sim.ask([i] * 9, out=12, expected=9)
    sim.run()
    assert len(sim.finished) == 4 and sim.scheduler.preemptions > 0
    return sim


def test_preempted_kv_goes_to_the_host_where_that_is_cheaper() -> None:
    sim, without = crowd(QUICK_MOVES, host_pages=40), crowd(QUICK_MOVES, host_pages=0)
    assert sim.scheduler.preempted_to_host == sim.scheduler.preemptions
    host = sim.tree.host
    assert host is not None and host.restored_pages > 0
    assert sim.computed < without.computed
    asked = 4 * (9 + 12 - 1)
    lost = sim.computed - asked
    assert lost < PAGE * sim.scheduler.preemptions, "no more than what fills no page"
    told = [str(event) for event in sim.scheduler.holdings.log]
    assert any("goes to the host (to the host and back 0.00 ms, computing" in t for t in told)


@pytest.mark.parametrize(("costs", "host_pages"), [(SLOW_MOVES, 40), (QUICK_MOVES, 1)])
def test_preempted_kv_is_computed_again_where_that_is_cheaper(
    costs: Costs, host_pages: int
) -> None:
    """Also where the host tier has no room for it."""
    sim = crowd(costs, host_pages)
    assert sim.scheduler.preempted_to_host == 0
    host = sim.tree.host
    assert host is not None and host.offloaded_pages == 0
    assert sim.computed == crowd(costs, 0).computed
    assert any("is computed again" in str(event) for event in sim.scheduler.holdings.log)


def test_kv_that_others_use_is_not_in_the_price_of_giving_way() -> None:
    sim = Sim(pages=14, host_pages=40, running=4)
    for i in range(4):
        sim.ask([9] * 24 + [i] * 4, out=8, expected=28)
    sim.run()
    ways = [event.way for event in sim.scheduler.holdings.log if isinstance(event, Preemption)]
    assert ways and all(way.tokens <= 4 + 8 for way in ways)


def test_evicted_prefixes_come_back_from_the_host() -> None:
    sim = Sim(pages=12, host_pages=40)
    first, second = [1] * 32, [2] * 32
    for prompt in (first, second, first, second):
        sim.ask(prompt, out=1)
        sim.run()
    assert sim.tree.host is not None and sim.tree.host.restored_pages >= 8
    assert sim.computed <= 32 + 32 + 8


def test_little_memory_goes_to_those_who_share_it() -> None:
    rng = random.Random(4)
    heads = [[h] * 40 for h in range(8)]
    prompts = [[*head, 50 + i, i] for head in heads for i in range(6)]
    rng.shuffle(prompts)
    sim = Sim(pages=45, batch_tokens=200, running=16)
    for prompt in prompts:
        sim.ask(prompt, out=2)
    sim.run()
    assert sim.computed <= 8 * 40 + 48 * 4, "prefixes were evicted while they were needed"


def test_nobody_is_passed_over_for_ever() -> None:
    sim = Sim(pages=40, running=1)
    sim.ask([1] * 20, out=1)
    sim.run()
    cold = sim.ask([2] * 20, out=1)
    for _ in range(2000):
        sim.ask([1] * 20, out=1)
        sim.step()
        if cold in sim.finished:
            return
    raise AssertionError("the request without a cached prefix starved")


@pytest.mark.parametrize("seed", range(6))
def test_random_traffic(seed: int) -> None:
    rng = random.Random(seed)
    sim = Sim(pages=rng.choice([14, 40]), host_pages=rng.choice([0, 30]), batch_tokens=24)
    heads = [[rng.randrange(3) for _ in range(rng.randrange(1, 18))] for _ in range(5)]
    alive: list[Request] = []
    asked = 0
    for _ in range(400):
        if rng.random() < 0.5 and asked < 150:
            asked += 1
            prompt = rng.choice(heads) + [rng.randrange(3) for _ in range(rng.randrange(1, 16))]
            out = rng.randrange(1, 12)
            expected = len(prompt) + rng.choice([0, out])
            priority = rng.choice([0.0, 0.0, 3.0])
            salt = rng.choice(["", "", "x"])
            alive.append(sim.ask(prompt, out, expected=expected, priority=priority, salt=salt))
        alive = [r for r in alive if r not in sim.finished]
        if alive and rng.random() < 0.04:
            sim.scheduler.remove(alive.pop(rng.randrange(len(alive))), sim.now)
        if sim.scheduler.running or sim.scheduler.waiting:
            assert sim.step()
    sim.run()
    assert sim.tree.held_pages == 0
    assert sim.advanced > 0
    assert all(r in sim.finished for r in alive)


def test_a_stream_of_urgent_requests_starves_nobody() -> None:
    """A priority of five is worth fifty seconds of waiting, and no more."""
    sim = Sim(pages=40, running=1)
    patient = sim.ask([1] * 8, out=1)
    for step in range(200):
        sim.ask([100 + step] * 8, out=1, priority=5.0)
        sim.step()
        if patient in sim.finished:
            assert step <= 52
            return
    raise AssertionError("the request of low priority starved")


@pytest.mark.parametrize("seed", range(8))
def test_abort_frees_everything_at_once(seed: int) -> None:
    """Wherever a request stands: waiting, for another's prefix too, half computed, preempted."""
    rng = random.Random(seed)
    sim = Sim(pages=14, host_pages=rng.choice([0, 20]), batch_tokens=10, running=4)
    head = [9] * 8
    alive = [
        sim.ask((head if rng.random() < 0.6 else []) + [i] * 9, out=9, expected=10)
        for i in range(8)
    ]
    for _ in range(rng.randrange(12)):
        sim.step()
    stands = {r.number for r in sim.scheduler.running}
    assert len(stands) < 8, "some should wait"
    rng.shuffle(alive)
    for request in alive:
        if request in sim.finished:
            continue
        held = sum(len(r.pages) for r in sim.scheduler.running if r is not request)
        sim.scheduler.remove(request, sim.now)
        assert request not in set(sim.scheduler.requests()) and not request.pages
        pool, tree = sim.tree.allocator, sim.tree
        assert pool.free + tree.cached_pages + tree.held_pages + held == pool.total
    assert (sim.scheduler.waiting, sim.tree.held_pages) == (0, 0)
    sim.tree.clear(sim.now)
    assert sim.tree.allocator.free == sim.tree.allocator.total
