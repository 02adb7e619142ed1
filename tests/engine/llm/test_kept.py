"""KV that is kept between calls: on the host, by pins, for one tenant; and who holds a page."""

from __future__ import annotations

import asyncio

import pytest

from plait.dag.sampling import Sampling
from plait.engine.llm.costs import Costs

from .calls import Build, one, slowly


async def test_kv_that_went_to_the_host_comes_back_the_same(engine: Build) -> None:
    settings = Sampling(max_tokens=8, ignore_eos=True)
    prompts = [[i] * 60 for i in range(5, 11)]
    roomy = engine()
    wanted = [(await one(roomy, p, settings)).token_ids for p in prompts]
    llm = engine(page_size=4, kv_memory=40 * 4 * 256, host_memory=400 * 4 * 256)
    llm.costs = Costs(token=1.0, kv_bytes=256)
    for _ in range(2):
        assert [(await one(llm, p, settings)).token_ids for p in prompts] == wanted
    host = llm._tree.host
    assert host is not None and host.restored_pages > 50
    assert llm.counters().prefill_tokens < 6 * 60 + 6 * 8


async def test_heads_are_pinned_for_their_own_tenant(engine: Build) -> None:
    now = [100.0]
    llm = engine(page_size=4, kv_memory=40 * 4 * 256, clock=lambda: now[0])
    settings = Sampling(max_tokens=2, ignore_eos=True)
    kept, salted = [3] * 60, [4] * 20
    await llm.generate(kept, settings)
    await llm.generate(salted, settings, salt="tenant")
    llm.warm(salted, until=130.0)  # another tenant's
    llm.warm(kept, until=100.0)  # too late
    head, other = llm.warm(kept, until=130.0), llm.warm(salted, until=110.5, salt="tenant")
    await llm.generate([7], settings)
    assert [line for line in llm.explain() if "pin" in line] == [
        f"pin {other.pin} keeps 20 tokens for 10.5 s more",
        f"pin {head.pin} keeps 60 tokens for 30.0 s more",
    ]
    for word in range(8, 18):
        now[0] += 1.0
        await llm.generate([word] * 60, settings)
    assert (await one(llm, kept, settings)).usage.cached_tokens >= 56
    now[0] += 1.0
    await llm.generate([7], settings)
    assert (llm.counters().pins, llm.counters().pins_made) == (1, 2)
    llm.release(head)
    llm.release(head)
    await llm.generate([7], settings)
    assert llm.counters().pins == 0


async def test_pins_cannot_wedge_the_engine(engine: Build) -> None:
    llm = engine(page_size=4, kv_memory=40 * 4 * 256)
    settings = Sampling(max_tokens=2, ignore_eos=True)
    for word in range(3, 9):
        await llm.generate([word] * 60, settings)
        llm.warm([word] * 60, until=float("inf"))
    assert (await one(llm, [9] * 150, settings)).usage.completion_tokens == 2
    assert llm.counters().pins_broken > 0
    assert any("although pinned" in line for line in llm.explain())


async def test_tenants_share_nothing(engine: Build) -> None:
    llm = engine(page_size=4)
    settings = Sampling(max_tokens=2, ignore_eos=True)
    first = await one(llm, [3] * 40, settings, salt="a")
    other = await one(llm, [3] * 40, settings, salt="b")
    again = await one(llm, [3] * 40, settings, salt="a")
    assert [g.usage.cached_tokens for g in (first, other, again)] == [0, 0, 39]
    assert first.token_ids == other.token_ids == again.token_ids


async def test_counted_pages_are_those_that_somebody_holds(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine()
    slowly(llm, monkeypatch)
    task = asyncio.create_task(one(llm, [3] * 40, Sampling(max_tokens=60, ignore_eos=True)))
    while not llm.counters().generated_tokens:
        await asyncio.sleep(0.001)
    pages = llm._tree.allocator

    def unaccounted() -> int:
        found = llm._thread.call(llm.counters)
        assert found.held_pages == (7 if found.running else 0)
        return found.total_pages - found.free_pages - found.cached_pages - found.held_pages

    assert unaccounted() == 0
    lost = llm._thread.call(lambda: pages.take(1))
    assert unaccounted() == 1, "a page that nobody holds is not called held"
    llm._thread.call(lambda: pages.give(lost))
    await task
    assert unaccounted() == 0
