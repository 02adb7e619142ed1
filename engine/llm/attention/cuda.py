"""Attention on a CUDA device, in plain torch: gather what each sequence reads, one flash call.

In 16-bit types torch's variable-length flash attention does the work; fp32 and soft caps, which it
does not know, are written out. Reading pages without gathering is left to kernels of our own.
The planning is tested on a CPU with the written-out kernel; this file has not run on a GPU yet.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch

from ..pool import Pool
from .levels import Levels
from .plan import Layout
from .step import Asked, PlannedAttention, merged
from .varlen import Batch, BatchPlan, VarlenKernel, attend_sequences, plan_batches


class CudaAttention(PlannedAttention[BatchPlan]):
    """One step's batches."""

    def __init__(
        self,
        pool: Pool,
        layout: Layout,
        slots: torch.Tensor,
        kernel: VarlenKernel | None = None,
    ) -> None:
        super().__init__(pool, layout, slots)
        self._kernel = kernel

    def _plan(self, window: int | None, plain: bool) -> BatchPlan:
        return plan_batches(self._layout, window, self.pool.device)

    def _longer(self, plan: BatchPlan) -> BatchPlan | None:
        return None

    def _compute(self, plan: BatchPlan, asked: Asked, levels: Levels) -> torch.Tensor:
        kernel = self._kernel or choose_kernel(asked.query, asked.values, asked.softcap)
        for batch in plan.batches:
            out, lse = kernel(
                asked.query.index_select(0, batch.rows),
                asked.keys.index_select(0, batch.slots),
                asked.values.index_select(0, batch.slots),
                batch,
                scale=asked.scale,
                window=asked.window,
                softcap=asked.softcap,
            )
            levels.outs[batch.levels, batch.rows] = out.float()
            levels.lses[batch.levels, batch.rows] = lse.float()
        return merged(levels, asked)


def choose_kernel(query: torch.Tensor, value: torch.Tensor, softcap: float | None) -> VarlenKernel:
    """Flash attention where it fits, else attention written out."""
    size = query.shape[-1]
    half = query.dtype in (torch.float16, torch.bfloat16) and has_flash(query.device)
    if half and softcap is None and size == value.shape[-1] and size <= 256 and size % 8 == 0:
        return attend_flash
    return attend_sequences


@cache
def has_flash(device: torch.device) -> bool:
    """Whether torch's flash attention runs there: on GPUs from compute capability 8.0 on."""
    built = torch.backends.cuda.is_flash_attention_available()
    return device.type == "cuda" and built and torch.cuda.get_device_capability(device) >= (8, 0)


def attend_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: Batch,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """torch's variable-length flash attention. Causal is aligned at the end of the slots."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    groups = query.shape[1] != key.shape[1]
    extra: dict[str, Any] = {"enable_gqa": groups} if _asks_for_groups() else {}
    left = window - 1 if window is not None else -1
    out, lse = varlen_attn(
        query,
        key,
        value,
        batch.row_ends,
        batch.slot_ends,
        batch.most_rows,
        batch.most_slots,
        return_aux=AuxRequest(lse=True),
        scale=scale,
        window_size=(left, 0) if batch.causal else (-1, -1),
        **extra,
    )
    # Its documentation says (rows, heads) and its kernel gives (heads, rows): look.
    return out, lse if _rows_first(query.device, query.dtype) else lse.transpose(0, 1)


@cache
def _asks_for_groups() -> bool:
    """Whether it wants to be told of fewer KV heads: from torch 2.12 on; before, it never asked."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


@cache
def _rows_first(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch gives the log-sum-exp as (rows, heads)."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    rows = torch.zeros(3, 1, 8, device=device, dtype=dtype)
    ends = torch.tensor([0, 3], device=device, dtype=torch.int32)
    _, lse = varlen_attn(rows, rows, rows, ends, ends, 3, 3, return_aux=AuxRequest(lse=True))
    return tuple(lse.shape) == (3, 1)
