"""The CUDA back end's own code, run on CPU tensors: all of it but the kernel inside torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen

from plait.engine.llm import LLM, forward
from plait.engine.llm.attention import cuda
from plait.engine.llm.attention.cuda import CudaAttention, attend_flash, choose_kernel
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.attention.varlen import attend_sequences, plan_batches
from plait.engine.llm.pool import Pool

from . import models
from .test_attention import HEADS, KV_HEADS, LAYOUTS, PAGES, SIZE
from .test_exact import ask, ragged_prompts
from .test_scheduler import PAGE


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt_oss"])
async def test_tokens_through_the_cuda_back_end_are_those_of_plain_generate(
    family: str,
    model_path: Callable[[str], Path],
    engine: Callable[..., LLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = 0

    def step(
        pool: Pool, layout: Layout, slots: torch.Tensor, positions: torch.Tensor
    ) -> CudaAttention:
        nonlocal made
        made += 1
        return CudaAttention(pool, layout, slots)

    monkeypatch.setattr(forward, "step_attention", step)
    prompts = ragged_prompts()
    oracle = models.oracle(model_path(family))
    wanted = [tuple(models.plainly(oracle, p, 6)) for p in prompts]
    llm = engine(family, max_batch_tokens=40)
    assert await ask(llm, prompts, 6) == wanted
    assert await ask(llm, prompts, 6) == wanted  # everything cached
    assert made > 2


def fake_varlen(heads_first: bool) -> Callable[..., Any]:
    """torch's function as it is documented: causal and windows count from the end of the keys."""

    def varlen_attn(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert enable_gqa or query.shape[1] == key.shape[1]
        group = query.shape[1] // key.shape[1]
        outs, lses = [], []
        for i in range(len(cu_seq_q) - 1):
            q = query[cu_seq_q[i] : cu_seq_q[i + 1]].float()
            k, v = (x[cu_seq_k[i] : cu_seq_k[i + 1]].float() for x in (key, value))
            assert len(q) <= max_q
            assert len(k) <= max_k
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            scores = torch.einsum("rhd,thd->hrt", q, k) * (scale or q.shape[-1] ** -0.5)
            ahead = torch.arange(len(k)) - (torch.arange(len(q))[:, None] + len(k) - len(q))
            left, right = window_size
            hidden = torch.zeros(ahead.shape, dtype=torch.bool)
            if right >= 0:
                hidden |= ahead > right
            if left >= 0:
                hidden |= ahead < -left
            scores.masked_fill_(hidden, float("-inf"))
            lses.append(scores.logsumexp(-1))
            outs.append(torch.einsum("hrt,thd->rhd", scores.softmax(-1), v))
        lse = torch.cat(lses, 1)
        return torch.cat(outs).to(query.dtype), lse if heads_first else lse.t().contiguous()

    return varlen_attn


@pytest.mark.parametrize("heads_first", [True, False])
@pytest.mark.parametrize("window", [None, 5, 40])
def test_flash_is_asked_for_what_is_written_out(
    window: int | None, heads_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", fake_varlen(heads_first))
    forget()
    torch.manual_seed(3)
    keys, values = torch.randn(2, PAGES * PAGE, KV_HEADS, SIZE)
    for layout in LAYOUTS:
        query = torch.randn(layout.rows, HEADS, SIZE)
        for batch in plan_batches(layout, window, torch.device("cpu")).batches:
            given = (query[batch.rows], keys[batch.slots], values[batch.slots], batch)
            fast = attend_flash(*given, scale=0.3, window=window, softcap=None)
            plain = attend_sequences(*given, scale=0.3, window=window, softcap=None)
            for a, b in zip(fast, plain, strict=True):
                assert torch.allclose(a, b, atol=2e-5)
    forget()


def forget() -> None:
    """What is known of torch's function: it was exchanged."""
    cuda._rows_first.cache_clear()
    cuda._asks_for_groups.cache_clear()


def test_the_kernel_is_flash_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    half = torch.zeros(3, 2, 64, dtype=torch.bfloat16)
    assert choose_kernel(half, half, None) is attend_sequences, "not on a CPU"
    monkeypatch.setattr(cuda, "has_flash", lambda device: True)
    assert choose_kernel(half, half, None) is attend_flash
    assert choose_kernel(half, half, 30.0) is attend_sequences
    assert choose_kernel(half, half[..., :32], None) is attend_sequences
    assert choose_kernel(half.float(), half.float(), None) is attend_sequences
    assert choose_kernel(half[..., :12], half[..., :12], None) is attend_sequences
