"""16-bit weights: as close to fp32 as transformers' own bf16 is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from plait.dag.sampling import Sampling
from plait.engine.generation import Generation
from plait.engine.llm import LLM

from . import models

TOLERANCE = 1.1
"""Our mean error over the mean error of transformers' bf16, both against fp32."""


def prompts() -> list[list[int]]:
    """A shared head long enough for packed products, chunks of equal length, and stragglers."""
    rng = random.Random(9)
    words = range(3, models.VOCAB)
    head = rng.choices(words, k=150)
    return [[*head, *rng.choices(words, k=n)] for n in (*[24] * 6, 1, 90)] + [head[:40]]


async def ask(llm: LLM, prompts: list[list[int]]) -> list[Generation]:
    sampling = Sampling(max_tokens=8, logprobs=10, ignore_eos=True)
    answers = await asyncio.gather(*(llm.generate(p, sampling) for p in prompts))
    return [a[0] for a in answers]


@torch.inference_mode()
def logprobs_of(model: Any, prompt: list[int], done: Generation) -> list[float]:
    """What transformers says of the same tokens in the same places."""
    logits = model(torch.tensor([[*prompt, *done.token_ids]])).logits[0].float()
    logs = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    assert done.logprobs is not None
    return [
        float(row[token])
        for row, chosen in zip(logs, done.logprobs, strict=True)
        for token, _ in chosen.top
    ]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
async def test_bf16_is_as_near_to_fp32_as_that_of_transformers(
    family: str, model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    path = model_path(family)
    plain, plain_half = (
        AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval()
        for dtype in (torch.float32, torch.bfloat16)
    )
    answers = await ask(engine(family, dtype="bfloat16"), prompts())
    ours: list[float] = []
    theirs: list[float] = []
    for prompt, done in zip(prompts(), answers, strict=True):
        assert done.logprobs is not None
        exact = logprobs_of(plain, prompt, done)
        half = logprobs_of(plain_half, prompt, done)
        mine = [value for chosen in done.logprobs for _, value in chosen.top]
        ours += [abs(a - b) for a, b in zip(mine, exact, strict=True)]
        theirs += [abs(a - b) for a, b in zip(half, exact, strict=True)]
    assert sum(ours) < TOLERANCE * sum(theirs)
    assert max(ours) < 1.5 * max(theirs)
