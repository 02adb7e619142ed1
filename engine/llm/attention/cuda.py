"""Attention on a CUDA device, in plain torch: gather what each sequence reads, one flash call.

In 16-bit types torch's variable-length flash attention does the work; fp32 and soft caps, which it
does not know, are written out. Reading pages without gathering is left to kernels of our own.
The planning is tested on a CPU with the written-out kernel; this file has not run on a GPU yet.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import torch

from ..pool import Pool
from .cpu import merge
from .plan import Layout
from .varlen import Batch, VarlenKernel, attend_sequences, plan_batches


class CudaAttention:
    """One step's batches, the same for every layer with the same window."""

    def __init__(
        self,
        pool: Pool,
        layout: Layout,
        slots: torch.Tensor,
        kernel: VarlenKernel | None = None,
    ) -> None:
        self._pool = pool
        self._layout = layout
        self._slots = slots
        self._kernel = kernel
        self._batches: dict[int | None, tuple[list[Batch], int]] = {}

    def advance(self, layout: Layout) -> None:
        """The next decode step; slots were moved on in place."""
        self._layout = layout
        self._batches.clear()

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        keys, values = self._pool.write(layer, self._slots, key, value)
        if window not in self._batches:
            self._batches[window] = plan_batches(self._layout, window, query.device)
        batches, levels = self._batches[window]
        rows, heads, _ = query.shape
        outs = query.new_zeros(levels, rows, heads, value.shape[-1])
        lses = query.new_full((levels, rows, heads), float("-inf"), dtype=torch.float32)
        kernel = self._kernel or choose_kernel(query, value, softcap)
        for batch in batches:
            out, lse = kernel(
                query.index_select(0, batch.rows),
                keys.index_select(0, batch.slots),
                values.index_select(0, batch.slots),
                batch,
                scale=scale,
                window=window,
                softcap=softcap,
            )
            outs[batch.levels, batch.rows] = out
            lses[batch.levels, batch.rows] = lse.float()
        return merge(outs, lses, sinks)


def choose_kernel(query: torch.Tensor, value: torch.Tensor, softcap: float | None) -> VarlenKernel:
    """Flash attention where it fits, else attention written out."""
    size = query.shape[-1]
    half = query.dtype in (torch.float16, torch.bfloat16)
    if half and softcap is None and size == value.shape[-1] and size <= 256 and size % 8 == 0:
        return attend_flash
    return attend_sequences


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

    extra: dict[str, Any] = {}
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # from torch 2.12 on
        extra["enable_gqa"] = query.shape[1] != key.shape[1]
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


@lru_cache
def _rows_first(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch gives the log-sum-exp as (rows, heads)."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    rows = torch.zeros(3, 1, 8, device=device, dtype=dtype)
    ends = torch.tensor([0, 3], device=device, dtype=torch.int32)
    _, lse = varlen_attn(rows, rows, rows, ends, ends, 3, 3, return_aux=AuxRequest(lse=True))
    return tuple(lse.shape) == (3, 1)
