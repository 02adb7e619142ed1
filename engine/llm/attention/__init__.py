"""Attention over the tree: one plan per step, one back end per kind of device.

A back end turns each item into partial results (output, log-sum-exp) and merges them per row.
The merge is exact: softmax over a set is the mean of softmaxes over its parts, weighted by the
parts' summed exponentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from ..pool import Pool
    from .plan import Layout


class StepAttention(Protocol):
    """Attention of one step: writes the step's K and V to the pool, reads what its rows see."""

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
        """query (T, Hq, D), key and value (T, Hkv, D) -> (T, Hq, D)."""
        ...

    def advance(self, layout: Layout) -> None:
        """Go on to the next decode step of the same requests."""
        ...


def step_attention(
    pool: Pool, layout: Layout, slots: torch.Tensor, positions: torch.Tensor
) -> StepAttention:
    """The back end for the pool's device: on a CPU our own kernel, or torch's operators."""
    if pool.device.type == "cpu":
        from .cpu import CpuAttention
        from .fused import FusedAttention, fits

        own = all(fits(pool.dtype, s.key_size, s.value_size) for s in pool.layers)
        return (FusedAttention if own else CpuAttention)(pool, layout, slots, positions)
    from .cuda import CudaAttention

    return CudaAttention(pool, layout, slots)
