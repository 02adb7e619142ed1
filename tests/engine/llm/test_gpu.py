"""On a real GPU, where there is one: the calls that cannot be made without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from plait.dag.sampling import Sampling
from plait.engine.llm import LLM
from plait.engine.llm.attention.cuda import attend_flash, has_flash
from plait.engine.llm.attention.varlen import attend_sequences, plan_batches
from plait.engine.llm.memory import free_memory

from . import models
from .test_attention import HEADS, KV_HEADS, LAYOUTS, PAGES, SIZE
from .test_exact import ask, ragged_prompts
from .test_preemption import BYTES_PER_TOKEN, PAGE, QUICK_MOVES, prompts_with_a_head

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma2", "gpt_oss"])
async def test_tokens_in_fp32_are_those_of_plain_generate(
    family: str, model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    prompts = ragged_prompts()
    oracle = models.oracle(model_path(family))
    wanted = [tuple(models.plainly(oracle, p, 6)) for p in prompts]
    llm = engine(family, device="cuda", dtype="float32", max_batch_tokens=40)
    assert await ask(llm, prompts, 6) == wanted
    assert await ask(llm, prompts, 6) == wanted  # everything cached


@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_flash_gives_what_is_written_out(window: int | None, kind: torch.dtype) -> None:
    if not has_flash(GPU):
        pytest.skip("this GPU has no flash attention")
    torch.manual_seed(3)
    keys, values = torch.randn(2, PAGES * 4, KV_HEADS, SIZE, device=GPU).to(kind)
    for layout in LAYOUTS:
        query = torch.randn(layout.rows, HEADS, SIZE, device=GPU).to(kind)
        for batch in plan_batches(layout, window, GPU).batches:
            given = (query[batch.rows], keys[batch.slots], values[batch.slots], batch)
            fast = attend_flash(*given, scale=0.3, window=window, softcap=None)
            plain = attend_sequences(*given, scale=0.3, window=window, softcap=None)
            for a, b in zip(fast, plain, strict=True):
                assert a.shape == b.shape and torch.allclose(a.float(), b, atol=3e-2)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
async def test_kv_that_went_to_the_host_comes_back_as_it_was(
    kind: str, model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    prompts, sampling = prompts_with_a_head(), Sampling(max_tokens=24, ignore_eos=True)
    page = PAGE * BYTES_PER_TOKEN // (1 if kind == "float32" else 2)

    async def answers(pages: int) -> tuple[list[tuple[int, ...]], LLM]:
        llm = engine(
            device="cuda", dtype=kind, page_size=PAGE, kv_memory=pages * page,
            host_memory=100 * page,
        )  # fmt: skip
        llm.costs = QUICK_MOVES
        found = await asyncio.gather(
            *(llm.generate(p, sampling, expected_tokens=1) for p in prompts)
        )
        return [one[0].token_ids for one in found], llm

    tight, llm = await answers(26)
    assert llm.counters().restored_pages > 0
    if kind == "float32":
        oracle = models.oracle(model_path("llama"))
        assert tight == [tuple(models.plainly(oracle, p, 24)) for p in prompts]


async def test_sampling_logprobs_and_two_answers(engine: Callable[..., LLM]) -> None:
    llm = engine(device="cuda", dtype="bfloat16")
    settings = Sampling(
        max_tokens=5, ignore_eos=True, temperature=0.8, top_p=0.9, top_k=20, min_p=0.01, seed=3,
        logprobs=2, n=2,
    )  # fmt: skip
    one, again = [await llm.generate([3, 4, 5], settings) for _ in range(2)]
    assert [g.token_ids for g in one] == [g.token_ids for g in again]
    assert all(g.logprobs is not None and len(g.logprobs) == 5 for g in one)


def test_a_closed_model_gives_its_memory_back(model_path: Callable[[str], Path]) -> None:
    def loaded() -> int:
        llm = LLM(model_path("llama"), device="cuda", kv_memory="256MiB", calibrate=True)
        try:
            return free_memory(GPU)
        finally:
            llm.close()

    loaded()
    before = torch.cuda.mem_get_info(GPU)[0]
    assert loaded() < before
    assert torch.cuda.mem_get_info(GPU)[0] == pytest.approx(before, abs=32 << 20)
