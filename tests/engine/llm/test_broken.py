"""Calls that are cancelled, steps that break, engines that close: nobody else is harmed."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
import torch

from plait.dag.errors import EngineError, GenerationError
from plait.dag.sampling import Sampling
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.request import Chunk

from .calls import Build, one, slowly


async def test_cancelling_frees_everything(engine: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = engine()
    slowly(llm, monkeypatch)
    slow = Sampling(max_tokens=500, temperature=1.0, n=3, ignore_eos=True)
    task = asyncio.create_task(llm.generate([3, 4], slow))
    while llm.counters().generated_tokens < 10:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await one(llm, [7], Sampling(max_tokens=1))
    counters = llm.counters()
    assert (counters.running, counters.waiting, counters.held_pages) == (0, 0, 0)
    assert counters.aborted == 3


async def test_a_broken_step_fails_its_requests_only(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine()
    runner = llm._loop._runner
    run = runner.run
    broken = [True]

    def sometimes(layout: object) -> object:
        if broken.pop() if broken else False:
            raise RuntimeError("boom")
        return run(layout)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run", sometimes)
    with pytest.raises(EngineError, match="boom"):
        await llm.generate([3, 4], Sampling(max_tokens=4))
    assert (await one(llm, [3, 4], Sampling(max_tokens=1))).usage.completion_tokens == 1


@pytest.mark.parametrize("moment", [1, 2, 4])
@pytest.mark.parametrize("how", ["raise", "nan"])
async def test_several_generations_of_one_call_may_fail_at_once(
    engine: Build, monkeypatch: pytest.MonkeyPatch, how: str, moment: int
) -> None:
    llm = engine()
    run, steps = llm._runner.run, itertools.count(1)

    def broken(layout: Layout) -> torch.Tensor:
        logits = run(layout)
        if next(steps) != moment:
            return logits
        if how == "raise":
            raise RuntimeError("boom")
        return logits * float("nan")

    monkeypatch.setattr(llm._runner, "run", broken)
    hot = Sampling(max_tokens=8, temperature=1.0, n=3, ignore_eos=True)
    with pytest.raises((EngineError, GenerationError), match="boom|not numbers"):
        await llm.generate([3, 4], hot)
    assert len(await llm.generate([3, 4], hot)) == 3
    counters = llm.counters()
    assert counters.failed + counters.aborted == 3 == counters.finished
    assert counters.held_pages == 0


async def test_close_fails_what_runs_and_does_not_hang(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine()
    slowly(llm, monkeypatch)
    tasks = [
        asyncio.create_task(llm.generate([3, i], Sampling(max_tokens=400, ignore_eos=True)))
        for i in range(4, 8)
    ]
    await asyncio.sleep(0.02)
    began = time.monotonic()
    llm.close()
    for task in tasks:
        with pytest.raises(EngineError, match="closed"):
            await task
    with pytest.raises(EngineError, match="closed"):
        await llm.generate([3], Sampling())
    assert time.monotonic() - began < 5


async def test_logits_that_are_not_numbers_fail_their_request_only(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine()
    runner = llm._loop._runner
    run = runner.run

    def spoiled(layout: Layout) -> torch.Tensor:
        logits = run(layout).clone()
        for row, chunk in enumerate(c for c in layout.chunks if c.samples):
            if chunk.request.prompt[0] == 99:
                logits[row, 5] = float("nan")
        return logits

    monkeypatch.setattr(runner, "run", spoiled)
    good = Sampling(max_tokens=4, ignore_eos=True)
    bad, fine = await asyncio.gather(
        llm.generate([99, 4], good), llm.generate([3, 4], good), return_exceptions=True
    )
    assert isinstance(bad, GenerationError) and "not numbers" in str(bad)
    assert isinstance(fine, list) and fine[0].usage.completion_tokens == 4
    assert llm.counters().held_pages == 0


@pytest.mark.parametrize("moment", ["waiting", "prefill", "decode"])
async def test_cancelling_at_any_moment_frees_everything(
    engine: Build, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(page_size=4, max_running=1, max_batch_tokens=4)
    slowly(llm, monkeypatch)
    busy = Sampling(max_tokens=300, ignore_eos=True)
    first = asyncio.create_task(llm.generate([5] * 150, busy))
    second = asyncio.create_task(llm.generate([6] * 150, busy))
    done = {"waiting": (4, 0), "prefill": (30, 0), "decode": (150, 3)}[moment]
    while (llm.counters().prefill_tokens, llm.counters().generated_tokens) < done:
        await asyncio.sleep(0.001)
    for task in (second, first) if moment == "waiting" else (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await one(llm, [7], Sampling(max_tokens=1))
    counters = llm.counters()
    assert (counters.running, counters.waiting, counters.held_pages) == (0, 0, 0)
    assert counters.free_pages + counters.cached_pages == counters.total_pages
    assert counters.aborted == 2


async def test_close_returns_whoever_calls_it_and_however_often(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From other threads, from a listener on the caller's loop, again, and with calls coming in."""
    llm = engine()
    slowly(llm, monkeypatch)
    settings = Sampling(max_tokens=400, ignore_eos=True)

    def close(*_: object) -> None:
        llm.close()

    calls = [asyncio.create_task(llm.generate([3, i], settings)) for i in range(4, 8)]
    calls.append(asyncio.create_task(llm.generate([9, 9], settings, on_token=close)))
    ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert all(isinstance(e, EngineError) for e in ended)
    closing = [asyncio.to_thread(llm.close) for _ in range(3)]
    late = [llm.generate([3], settings) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*closing), 20)
    ended = await asyncio.wait_for(asyncio.gather(*late, return_exceptions=True), 20)
    assert all(isinstance(e, EngineError) for e in ended)


async def test_a_schedule_that_breaks_fails_those_who_wait_and_run(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(max_running=1)
    real, steps = llm._loop.scheduler.schedule, iter(range(1000))

    def sometimes(now: float) -> list[Chunk]:
        if next(steps) == 3:
            raise RuntimeError("boom")
        return real(now)

    monkeypatch.setattr(llm._loop.scheduler, "schedule", sometimes)
    calls = [llm.generate([3, i], Sampling(max_tokens=40, ignore_eos=True)) for i in range(4)]
    ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert all(isinstance(e, EngineError) and "boom" in str(e) for e in ended)
    assert (await one(llm, [3], Sampling(max_tokens=1))).usage.completion_tokens == 1
    counters = llm.counters()
    assert (counters.failed, counters.held_pages, counters.waiting) == (4, 0, 0)


async def test_a_step_loop_that_breaks_ends_its_calls(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong outside of a step closes the engine: none of its calls hangs."""
    llm, other = engine(), engine()

    def broken() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(llm._loop, "step", broken)
    with pytest.raises(EngineError, match="closed"):
        await asyncio.wait_for(llm.generate([3, 4], Sampling(max_tokens=4)), 20)
    llm.close()
    assert (await one(other, [3], Sampling(max_tokens=1))).usage.completion_tokens == 1


@pytest.mark.parametrize("cause", [MemoryError(), torch.OutOfMemoryError("CUDA")])
async def test_a_forward_without_memory_fails_its_requests_only(
    engine: Build, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    llm = engine()
    run, full = llm._loop._runner.run, [True]

    def sometimes(layout: Layout) -> torch.Tensor:
        if full and full.pop():
            raise cause
        return run(layout)

    monkeypatch.setattr(llm._loop._runner, "run", sometimes)
    with pytest.raises(GenerationError, match="out of memory: lower kv_memory"):
        await llm.generate([3, 4], Sampling(max_tokens=4))
    assert (await one(llm, [3, 4], Sampling(max_tokens=1))).usage.completion_tokens == 1
