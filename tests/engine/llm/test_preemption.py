"""Giving way changes no token: little KV memory, with and without a host tier, in all families."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from plait.dag.sampling import Sampling
from plait.engine.llm import LLM
from plait.engine.llm.costs import Costs

from . import models

BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # layers x (K, V) x heads x head size x float32
PAGE = 4
QUICK_MOVES = Costs(token=1.0, kv_bytes=BYTES_PER_TOKEN)
SLOW_MOVES = Costs(token=1e-6, kv_bytes=BYTES_PER_TOKEN, offload=1.0, restore=1.0)


def prompts_with_a_head() -> list[list[int]]:
    rng = random.Random(5)
    head = rng.choices(range(3, models.VOCAB), k=18)
    alone = [rng.choices(range(3, models.VOCAB), k=n) for n in (9, 22)]
    return [*(head + rng.choices(range(3, models.VOCAB), k=n) for n in (1, 5, 9, 14)), *alone]


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt_oss"])
async def test_tokens_are_those_of_plain_generate(
    family: str, model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    prompts = prompts_with_a_head()
    oracle = models.oracle(model_path(family))
    wanted = [tuple(models.plainly(oracle, p, 24)) for p in prompts]

    async def ask(host_pages: int, costs: Costs, prefix_cache: bool = True) -> LLM:
        llm = engine(
            family,
            page_size=PAGE,
            kv_memory=26 * PAGE * BYTES_PER_TOKEN,
            host_memory=host_pages * PAGE * BYTES_PER_TOKEN,
            prefix_cache=prefix_cache,
        )
        llm.costs = costs
        sampling = Sampling(max_tokens=24, ignore_eos=True)
        answers = await asyncio.gather(
            *(llm.generate(p, sampling, expected_tokens=1) for p in prompts)
        )
        assert [a[0].token_ids for a in answers] == wanted
        counters = llm.counters()
        assert counters.preemptions > 0
        assert counters.free_pages + counters.cached_pages == counters.total_pages
        return llm

    moved = (await ask(100, QUICK_MOVES)).counters()
    assert moved.preempted_to_host == moved.preemptions and moved.restored_pages > 0
    again = (await ask(100, SLOW_MOVES)).counters()
    assert again.preempted_to_host == 0 == again.offloaded_pages
    assert again.prefill_tokens > moved.prefill_tokens
    few = (await ask(3, QUICK_MOVES)).counters()
    assert few.preempted_to_host < few.preemptions, "what the host tier cannot hold is computed"
    await ask(0, QUICK_MOVES)
    await ask(0, QUICK_MOVES, prefix_cache=False)
