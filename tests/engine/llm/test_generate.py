"""What one `generate` call promises: prompts that are taken, ends, texts, what it tells."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from plait.dag.errors import GenerationError, PromptError
from plait.dag.messages import user
from plait.dag.sampling import Sampling

from .calls import HOT, Build, one, slowly


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


async def test_messages_go_through_the_chat_template(engine: Build) -> None:
    llm = engine("bytes")
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
