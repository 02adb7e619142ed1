"""Heads of prompts: computed when nothing else is to be done, found by the prompts that come."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree
from plait.dag.sampling import Sampling
from plait.engine.llm.costs import Costs
from plait.engine.llm.counters import Tally
from plait.engine.llm.request import Chunk, Request
from plait.engine.llm.scheduler import Limits, Scheduler
from plait.engine.llm.warming import LEAST, PIECE, Head, Warming

PAGE = 4


class Loop:
    """Steps without a model: every request generates token 7 until its limit."""

    def __init__(self, pages: int = 400, costs: Costs | None = None) -> None:
        self.tree = RadixTree(PageAllocator(pages), PAGE)
        self.scheduler = Scheduler(self.tree, Limits(2048, 8), self, costs or Costs())
        self.tally = Tally()
        self.warming = Warming(self.scheduler, self.tally)
        self.numbers = itertools.count()
        self.now = 0.0

    def copy(self, source: int, target: int, slots: int) -> None:
        """KV is nowhere."""

    def ask(self, prompt: list[int], tokens: int = 1) -> Request:
        request = Request(
            next(self.numbers), tuple(prompt), Sampling(max_tokens=tokens), 0, self.now,
            limit=len(prompt) + tokens, expected=len(prompt) + tokens,
        )  # fmt: skip
        self.warming.met(request.prompt, "")
        self.scheduler.add(request)
        return request

    def step(self) -> list[Chunk]:
        self.now += 1.0
        self.warming.begin(self.numbers, self.now)
        chunks = self.scheduler.schedule(self.now) if self.busy else []
        self.scheduler.commit(chunks, self.now)
        for chunk in chunks:
            if chunk.samples:
                chunk.request.tokens.append(7)
                if len(chunk.request.tokens) >= chunk.request.limit:
                    self.scheduler.remove(chunk.request, self.now)
        self.warming.end(self.now)
        tree = self.tree
        private = sum(len(r.pages) for r in self.scheduler.running)
        used = tree.allocator.free + tree.cached_pages + tree.held_pages + private
        assert used == tree.allocator.total
        return chunks

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running) or self.scheduler.waiting > 0

    def settle(self) -> None:
        for _ in range(1000):
            if not (self.busy or self.warming.waiting):
                return
            self.step()
        raise AssertionError("it never ends")


def words(seed: int, count: int) -> list[int]:
    return [random.Random(seed).randrange(100) for _ in range(count)]


def test_a_prompt_finds_its_head_computed() -> None:
    loop, prompt = Loop(), words(0, 3 * PIECE)
    loop.warming.add(Head(tuple(prompt[: 2 * PIECE + 50]), until=1e9))
    assert [c.count for _ in range(3) for c in loop.step()] == [PIECE, PIECE, 50]
    assert loop.tally.warmed_tokens == 2 * PIECE + 50 and loop.tally.warmed_used == 0
    request = loop.ask(prompt)
    loop.settle()
    assert request.cached == 2 * PIECE + 50 == loop.tally.warmed_used


def test_only_what_is_missing_is_computed_and_small_things_are_left() -> None:
    loop, prompt = Loop(), words(0, 200)
    loop.ask(prompt[:120])
    loop.settle()
    loop.warming.add(Head(tuple(prompt), until=1e9))
    loop.warming.add(Head(tuple(prompt[: 120 + LEAST - 1]), until=1e9))
    loop.settle()
    assert loop.tally.warmed_tokens == 80


def test_whoever_asks_goes_first() -> None:
    """No piece in a step with a prompt, or before one that waits for room."""
    loop = Loop(pages=240)
    loop.warming.add(Head(tuple(words(1, 300)), until=1e9))
    first, second = loop.ask(words(2, 300), tokens=5), loop.ask(words(3, 300), tokens=5)
    while first in loop.scheduler.running or first in loop.scheduler._queue:
        assert not any(chunk.request.warm for chunk in loop.step())
    assert loop.tally.warmed_tokens == 0
    loop.settle()
    assert second.generated == 5 and loop.tally.warmed_tokens == 300


@pytest.mark.parametrize(("token", "piece"), [(1e-4, 0), (1e-6, 100)])
def test_beside_decoding_only_what_the_others_do_not_feel(token: float, piece: int) -> None:
    costs = Costs(step=9e-4, decode_row=1e-4, token=token)
    loop = Loop(costs=costs)
    loop.ask(words(1, 8), tokens=3)
    loop.step()
    loop.warming.add(Head(tuple(words(2, 300)), until=1e9))
    assert sum(c.count for c in loop.step() if c.request.warm) == piece


def test_heads_are_given_up_in_time() -> None:
    loop = Loop()
    late, kept = (Head(tuple(words(seed, 100)), until=until) for seed, until in ((1, 0.5), (2, 9)))
    loop.warming.add(late)
    loop.warming.add(kept)
    loop.settle()
    assert late.computed == kept.computed == 100  # memory was free
    assert len(loop.tree.pins) == 1
    loop.now = 20.0
    loop.warming.begin(loop.numbers, loop.now)
    assert len(loop.tree.pins) == 0
    loop.warming.release(kept, loop.now)
    loop.warming.release(kept, loop.now)


def test_a_head_without_room_is_dropped() -> None:
    loop = Loop(pages=10)
    loop.warming.add(Head(tuple(words(1, 100)), until=1e9))
    loop.step()
    assert not loop.warming.waiting and loop.tree.allocator.free == 10


def test_what_is_there_is_pinned_at_once_whoever_else_computes() -> None:
    """Twice as much comes through as there is room for, and the conversation is still there."""
    loop, talk = Loop(pages=100), words(0, 120)

    def missing(head: Head | None) -> int:
        loop.ask(talk)
        loop.settle()
        if head is not None:
            loop.warming.add(head)
        for seed in range(1, 9):
            loop.ask(words(seed, 100))
            loop.step()
        loop.settle()
        left = len(talk) - loop.tree.match(talk).total
        if head is not None:
            loop.warming.release(head, loop.now)
        return left

    assert missing(None) == 120
    assert missing(Head(tuple(talk), until=loop.now + 1)) == 120  # too long a wait
    assert missing(Head(tuple(talk), until=1e9)) == 0
    assert len(loop.tree.pins) == loop.tree.held_pages == 0


def test_a_head_takes_no_memory_from_what_may_be_asked_for() -> None:
    loop, first = Loop(pages=100), words(0, 360)
    loop.ask(first)
    loop.settle()
    head = Head(tuple(words(1, 100)), until=1e9)
    loop.warming.add(head)
    loop.settle()
    assert head.computed == 0
    loop.tree.let_go(first, 100, loop.now)
    loop.warming.add(head)
    loop.settle()
    assert head.computed == 100 and loop.tree.match(first).total >= 100
    loop.warming.release(head, loop.now)
    loop.now += 1000.0  # and what nobody has used for long may go, too
    old = Head(tuple(words(2, 300)), until=1e9)
    loop.warming.add(old)
    loop.settle()
    assert old.computed == 300


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200), st.booleans()), max_size=25))
def test_whatever_comes_everything_ends_and_nothing_stays_held(
    acts: list[tuple[int, int, bool]],
) -> None:
    loop, heads, asked = Loop(pages=90), [], []
    for seed, size, head in acts:
        if head:
            heads.append(Head(tuple(words(seed, size)), until=loop.now + size))
            loop.warming.add(heads[-1])
        else:
            asked.append(loop.ask(words(seed, size), tokens=1 + size % 5))
        if size % 3:
            loop.step()
        if size % 7 == 0 and heads:
            loop.warming.release(heads.pop(), loop.now)
    loop.settle()
    for one in heads:
        loop.warming.release(one, loop.now)
    assert all(len(request.tokens) == request.limit for request in asked)
    assert len(loop.tree.pins) == 0 and loop.tree.held_pages == 0
    assert loop.tally.warmed_used <= loop.tally.warmed_tokens
