"""Promise 1: greedy tokens are those of plain `generate`, whatever the batch and the cache."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from plait.dag.sampling import Sampling
from plait.engine.llm import LLM
from plait.engine.llm.native import native

from . import models


def ragged_prompts() -> list[list[int]]:
    """Prompts of all lengths, some with a common head, one twice."""
    rng = random.Random(3)
    words = range(3, models.VOCAB)
    head = rng.choices(words, k=37)
    prompts = [rng.choices(words, k=n) for n in (1, 5, 16, 17, 31, 60)]
    prompts += [head + rng.choices(words, k=n) for n in (1, 3, 20, 40)]
    return [*prompts, list(prompts[-1])]


async def ask(llm: LLM, prompts: list[list[int]], max_tokens: int) -> list[tuple[int, ...]]:
    sampling = Sampling(max_tokens=max_tokens, ignore_eos=True)
    answers = await asyncio.gather(*(llm.generate(p, sampling) for p in prompts))
    return [a[0].token_ids for a in answers]


@pytest.mark.parametrize("family", models.FAMILIES)
async def test_tokens_are_those_of_plain_generate(
    family: str, model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    prompts = ragged_prompts()
    oracle = models.oracle(model_path(family))
    wanted = [tuple(models.plainly(oracle, p, 12)) for p in prompts]
    assert len({t for w in wanted for t in w}) > 8, "the model says the same token all the time"

    roomy = engine(family)
    assert await ask(roomy, prompts, 12) == wanted
    assert await ask(roomy, prompts, 12) == wanted  # everything cached

    chunked = engine(family, max_batch_tokens=7, max_running=3)
    assert await ask(chunked, prompts, 12) == wanted

    tight = engine(family, page_size=4, kv_memory=40 * 4 * bytes_per_token(family))
    assert await ask(tight, prompts, 12) == wanted
    counters = tight.counters()
    assert counters.free_pages + counters.cached_pages == counters.total_pages
    assert counters.held_pages == 0


@pytest.mark.parametrize("family", ["qwen2", "qwen3_wide", "gpt_oss"])
async def test_tokens_are_the_same_without_our_own_kernels(
    family: str,
    model_path: Callable[[str], Path],
    engine: Callable[..., LLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts = ragged_prompts()
    with_kernels = await ask(engine(family), prompts, 12)
    monkeypatch.setenv("PLAIT_NATIVE", "0")
    native.cache_clear()
    try:
        assert await ask(engine(family), prompts, 12) == with_kernels
    finally:
        monkeypatch.delenv("PLAIT_NATIVE")
        native.cache_clear()


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma2"])
async def test_a_step_of_many_rows(
    family: str, model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    rng = random.Random(4)
    words = range(3, models.VOCAB)
    head = rng.choices(words, k=200)
    prompts = [[*head, *rng.choices(words, k=90)] for _ in range(12)]
    prompts += [rng.choices(words, k=430)]
    oracle = models.oracle(model_path(family))
    wanted = [tuple(models.plainly(oracle, p, 4)) for p in prompts]
    assert await ask(engine(family), prompts, 4) == wanted


def bytes_per_token(family: str) -> int:
    return 2 * 2 * 2 * (16 if family in models.WIDE else 8) * 4  # layers, KV, heads, size, fp32
