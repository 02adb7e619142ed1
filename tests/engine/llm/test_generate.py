"""What one `generate` call promises: ends, texts, samples, errors, aborts."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plait.dag.errors import EngineError, GenerationError, PromptError
from plait.dag.messages import user
from plait.dag.sampling import Sampling
from plait.engine.generation import Generation
from plait.engine.llm import LLM
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.costs import Costs
from plait.engine.llm.request import Chunk
from plait.engine.llm.sampler import Draw, choose, seed_of, uniform

from . import models

Build = Callable[..., LLM]
HOT = Sampling(max_tokens=20, temperature=1.0, ignore_eos=True)


def slowly(llm: LLM, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.01) -> None:
    """Steps that take a while: what a test interrupts is still under way, whatever the load."""
    run = llm._runner.run

    def waits(layout: Layout) -> torch.Tensor:
        time.sleep(seconds)
        return run(layout)

    monkeypatch.setattr(llm._runner, "run", waits)


async def one(llm: LLM, prompt: list[int], sampling: Sampling, **more: object) -> Generation:
    return (await llm.generate(prompt, sampling, **more))[0]  # type: ignore[arg-type]


async def test_a_sample_depends_on_its_seed_alone(engine: Build) -> None:
    prompt = [5, 6, 7, 8]
    alone = engine()
    wanted = [(await one(alone, prompt, HOT, seed=s)).token_ids for s in range(6)]
    assert len(set(wanted)) == 6
    crowded = engine(max_batch_tokens=5, max_running=4, prefix_cache=False)
    again = await asyncio.gather(*(one(crowded, prompt, HOT, seed=s) for s in range(6)))
    assert [g.token_ids for g in again] == wanted


@pytest.mark.parametrize(
    "settings", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"top_k": 3, "top_p": 0.01}]
)
async def test_narrow_sampling_is_greedy(engine: Build, settings: dict[str, float]) -> None:
    llm = engine()
    narrow = Sampling(max_tokens=12, temperature=0.9, ignore_eos=True, **settings)  # type: ignore[arg-type]
    greedy = await one(llm, [9, 8, 7], Sampling(max_tokens=12, ignore_eos=True))
    assert (await one(llm, [9, 8, 7], narrow)).token_ids == greedy.token_ids


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-40, 1e-320])
@pytest.mark.parametrize("more", [{}, {"top_p": 0.9}, {"min_p": 0.1}])
async def test_next_to_no_temperature_is_greedy(
    engine: Build, temperature: float, more: dict[str, float]
) -> None:
    llm = engine()
    cold = Sampling(max_tokens=8, temperature=temperature, ignore_eos=True, **more)  # type: ignore[arg-type]
    greedy = await one(llm, [9, 8, 7], Sampling(max_tokens=8, ignore_eos=True))
    assert (await one(llm, [9, 8, 7], cold)).token_ids == greedy.token_ids


def test_a_row_whose_allowed_tokens_the_model_rules_out_has_no_token() -> None:
    logits = torch.full((2, 8), float("-inf"))
    logits[:, 3] = 1.0
    allowed = torch.arange(8) > 4
    draws = [Draw(HOT, 1, 0, allowed), Draw(HOT, 1, 0)]
    assert choose(logits, draws).tokens == [None, 3]


async def test_who_is_admitted_is_told_so(engine: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = engine(max_running=1)
    slowly(llm, monkeypatch)
    told: list[str] = []
    long = Sampling(max_tokens=20, ignore_eos=True, n=2, temperature=1.0)
    first = asyncio.create_task(
        llm.generate([1, 2, 3], long, on_begin=lambda: told.append("first"))
    )
    second = asyncio.create_task(
        llm.generate([4, 5, 6], Sampling(max_tokens=1), on_begin=lambda: told.append("second"))
    )
    dropped = asyncio.create_task(
        llm.generate([7, 8, 9], Sampling(max_tokens=1), on_begin=lambda: told.append("dropped"))
    )
    while not told:
        await asyncio.sleep(0.001)
    assert told == ["first"] and not second.done()
    dropped.cancel()
    await asyncio.gather(first, second)
    assert told == ["first", "second"]


@pytest.mark.parametrize("length", [9, 16, 30, 41])
async def test_n_generations_share_their_prompt(engine: Build, length: int) -> None:
    llm = engine()
    sampling = Sampling(max_tokens=8, temperature=1.0, n=5, ignore_eos=True)
    prompt = list(range(10, 10 + length))
    answers = await llm.generate(prompt, sampling, seed=3)
    assert len({a.token_ids for a in answers}) == 5
    assert [a.usage.prompt_tokens for a in answers] == [length, 0, 0, 0, 0]
    assert [a.usage.cached_tokens for a in answers] == [0, 0, 0, 0, 0]
    assert llm.counters().prefill_tokens == length + 4, "their last token is computed for each"
    alone = await engine(prefix_cache=False).generate(prompt, sampling, seed=3)
    assert [a.token_ids for a in answers] == [a.token_ids for a in alone]


async def test_the_next_turn_finds_the_answer(engine: Build) -> None:
    llm = engine()
    prompt = list(range(10, 40))
    answer = await one(llm, prompt, Sampling(max_tokens=40, ignore_eos=True))
    more = [*prompt, *answer.token_ids, *range(60, 68)]
    found = (await one(llm, more, Sampling(max_tokens=1))).usage
    assert found.cached_tokens == 30 + 39, "the KV of an answer's last token is never computed"


async def test_ends_of_a_generation(engine: Build) -> None:
    llm = engine()
    free = await one(llm, [3, 4, 5], Sampling(max_tokens=10, ignore_eos=True))
    assert free.finish_reason == "length" and free.usage.completion_tokens == 10
    stop = free.token_ids[4]
    cut = await one(llm, [3, 4, 5], Sampling(max_tokens=10, stop_token_ids=(stop,)))
    assert cut.finish_reason == "stop"
    assert cut.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    long = await one(llm, [3] * 508, Sampling(max_tokens=50, ignore_eos=True))
    assert long.finish_reason == "length" and len(long.token_ids) == 4


async def test_stop_strings_end_the_text_before_them(engine: Build) -> None:
    llm = engine("bytes")
    prompt = llm.encode("to be or not")
    seen: list[tuple[int, int, str]] = []
    whole = await one(llm, prompt, HOT, on_token=lambda *a: seen.append(a))
    await asyncio.sleep(0)
    assert "".join(piece for _, _, piece in seen) == whole.text
    assert [token for _, token, _ in seen] == list(whole.token_ids)
    stop = whole.text[7:10]
    shown: list[str] = []
    settings = Sampling(max_tokens=20, temperature=1.0, ignore_eos=True, stop=(stop, "never there"))
    cut = await one(llm, prompt, settings, on_token=lambda i, t, piece: shown.append(piece))
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert "".join(shown) == cut.text


async def test_logprobs_are_the_models_own(
    engine: Build, model_path: Callable[[str], Path]
) -> None:
    llm = engine()
    prompt = [3, 4, 5]
    for temperature in (0.0, 0.5):  # which has no part in them
        sampling = Sampling(max_tokens=6, temperature=temperature, logprobs=3, ignore_eos=True)
        answer = await one(llm, prompt, sampling)
        assert answer.logprobs is not None and len(answer.logprobs) == 6
        with torch.inference_mode():
            tokens = torch.tensor([[*prompt, *answer.token_ids]])
            logits = models.oracle(model_path("llama"))(tokens).logits[0, len(prompt) - 1 : -1]
        logs = torch.log_softmax(logits, -1)
        best = logs.topk(3)
        for at, (token, shown) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
            assert shown.token_id == token
            assert shown.logprob == pytest.approx(float(logs[at, token]), abs=1e-4)
            assert [number for number, _ in shown.top] == best.indices[at].tolist()
            assert [log for _, log in shown.top] == pytest.approx(
                best.values[at].tolist(), abs=1e-4
            )


def test_a_small_vocabulary_has_no_more_logprobs_than_tokens() -> None:
    chosen = choose(torch.randn(1, 8), [Draw(Sampling(logprobs=20), 1, 0)])
    assert chosen.logprobs[0] is not None and len(chosen.logprobs[0].top) == 8


def test_draws_are_the_same_in_every_process_and_version() -> None:
    """Or a run that is resumed would go on differently."""
    assert (uniform(1, 0), uniform(7, 300)) == (0.9140224628703029, 0.3431892262116003)
    assert seed_of(1, 2) == 16171810823986729605


async def test_messages_go_through_the_chat_template(engine: Build) -> None:
    llm = engine("bytes")
    assert llm.has_chat_template
    ids = llm.encode([user("hi")])
    assert ids == [*llm.encode("<|user|>"), *llm.encode("hi"), *llm.encode("<|assistant|>")]
    assert llm.encode([7, 8]) == [7, 8]
    with pytest.raises(PromptError, match="no messages"):
        llm.encode([])


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([], "empty"),
        ([3, 128], "outside the vocabulary"),
        ([-1], "outside the vocabulary"),
        ([3] * 512, "context"),
    ],
)
async def test_a_bad_prompt_is_refused(engine: Build, prompt: list[int], words: str) -> None:
    llm = engine()
    with pytest.raises(PromptError, match=words):
        await llm.generate(prompt, Sampling())
    assert (await one(llm, [5], Sampling(max_tokens=1))).usage.completion_tokens == 1


@pytest.mark.parametrize("prompt", [[5.5, 6], [5.0], ["a"], "abc", [None], None, [[5, 6]]])
async def test_what_are_no_token_ids_are_refused_and_harm_nobody(
    engine: Build, prompt: Any
) -> None:
    llm = engine()
    other = asyncio.create_task(one(llm, [7, 8], Sampling(max_tokens=20, ignore_eos=True)))
    with pytest.raises(PromptError, match="whole numbers"):
        await llm.generate(prompt, Sampling())
    assert (await other).usage.completion_tokens == 20


async def test_token_ids_of_any_whole_number_type(engine: Build) -> None:
    llm = engine()
    sampling = Sampling(max_tokens=6, ignore_eos=True)
    wanted = (await one(llm, [7, 8, 9], sampling)).token_ids
    for ids in (np.array([7, 8, 9]), torch.tensor([7, 8, 9])):
        assert (await one(llm, ids, sampling)).token_ids == wanted  # type: ignore[arg-type]


async def test_a_prompt_beyond_the_kv_memory_is_refused(engine: Build) -> None:
    llm = engine(kv_memory=64 * 256)
    with pytest.raises(PromptError, match="KV memory"):
        await llm.generate([3] * 100, Sampling())
    with pytest.raises(GenerationError, match="KV memory"):
        await llm.generate([3] * 50, Sampling(max_tokens=100, ignore_eos=True))
    assert (await one(llm, [3] * 50, Sampling(max_tokens=2))).usage.completion_tokens


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


@pytest.mark.parametrize("host_memory", [0, 60 * 4 * 256])
async def test_samples_are_the_same_after_preemption(engine: Build, host_memory: int) -> None:
    prompt = [5, 6, 7, 8]
    alone = engine()
    wanted = [(await one(alone, prompt, HOT, seed=s)).token_ids for s in range(6)]
    tight = engine(page_size=4, kv_memory=14 * 4 * 256, host_memory=host_memory)
    tight.costs = Costs(token=1.0, kv_bytes=256)
    again = await asyncio.gather(
        *(one(tight, prompt, HOT, seed=s, expected_tokens=1) for s in range(6))
    )
    assert [g.token_ids for g in again] == wanted
    counters = tight.counters()
    assert counters.preemptions > 0
    assert counters.preempted_to_host == (counters.preemptions if host_memory else 0)
    assert (counters.restored_pages > 0) == bool(host_memory)
    way = "goes to the host" if host_memory else "is computed again"
    assert any("gave way" in line and way in line for line in tight.explain())


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


async def test_pins_through_the_engine(engine: Build) -> None:
    now = [100.0]
    llm = engine(page_size=4, kv_memory=40 * 4 * 256, clock=lambda: now[0])
    settings = Sampling(max_tokens=2, ignore_eos=True)
    kept, salted = [3] * 60, [4] * 20
    await llm.generate(kept, settings)
    await llm.generate(salted, settings, salt="tenant")
    assert await llm.pin(salted, until=130.0) is None, "another tenant's"
    assert await llm.pin(kept, until=100.0) is None
    pin = await llm.pin(kept, until=130.0)
    other = await llm.pin(salted, until=110.0, salt="tenant")
    assert pin is not None and other is not None
    assert [line for line in llm.explain() if "pin" in line] == [
        f"pin {other} keeps 20 tokens for 10.0 s more", f"pin {pin} keeps 60 tokens for 30.0 s more"
    ]  # fmt: skip
    for word in range(5, 15):
        now[0] += 1.0
        await llm.generate([word] * 60, settings)
    assert (await one(llm, kept, settings)).usage.cached_tokens >= 56
    counters = llm.counters()
    assert (counters.pins, counters.pins_made, counters.pins_expired) == (1, 2, 1)
    assert await llm.unpin(pin) and not await llm.unpin(pin)
    llm.close()
    with pytest.raises(EngineError, match="closed"):
        await llm.pin(kept, until=999.0)


async def test_pins_cannot_wedge_the_engine(engine: Build) -> None:
    llm = engine(page_size=4, kv_memory=40 * 4 * 256)
    settings = Sampling(max_tokens=2, ignore_eos=True)
    for word in range(3, 9):
        await llm.generate([word] * 60, settings)
        await llm.pin([word] * 60, until=float("inf"))
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


async def test_every_step_says_what_it_did(engine: Build) -> None:
    llm = engine(page_size=4, max_batch_tokens=16)
    settings = Sampling(max_tokens=5, ignore_eos=True)
    prompt = list(range(10, 50))
    await llm.generate(prompt, settings)
    await llm.generate(prompt, settings)
    await llm.generate(prompt, Sampling(max_tokens=5, temperature=1.0, n=3, ignore_eos=True))
    steps, total = llm.steps(), llm.counters()
    assert len(steps) == total.steps
    for name in ("computed", "prefill", "generated", "cached"):
        counted = sum(getattr(step, f"{name}_tokens") for step in steps)
        assert counted == getattr(total, f"{name}_tokens")
    assert sum(step.asked_tokens for step in steps) == total.prompt_tokens == 120
    for name in ("flops", "bytes_read", "distinct_read", "total_read"):
        assert sum(getattr(step, name) for step in steps) == pytest.approx(getattr(total, name))
    assert [s.computed_tokens for s in steps[:3]] == [16, 16, 8]
    again = next(step for step in steps if step.hit_rate)
    assert again.cached_tokens == 39 and again.hit_rate == 39 / 40
    assert all(a.began <= b.began and a.step_seconds >= a.model_seconds
               for a, b in itertools.pairwise(steps))  # fmt: skip


async def test_what_is_computed_for_heads_nobody_asked_for(engine: Build) -> None:
    llm = engine()
    llm.warm(list(range(10, 110)), until=float("inf"))
    while not (counters := llm.counters()).warmed_tokens:
        await asyncio.sleep(0.001)
    assert counters.prefill_tokens == sum(step.prefill_tokens for step in llm.steps()) == 100
    assert sum(step.asked_tokens for step in llm.steps()) == counters.prompt_tokens == 0


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
