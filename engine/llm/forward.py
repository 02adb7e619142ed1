"""Running a Hugging Face model over packed rows, with our attention in place of its own.

The model's layers reach the running step through a module variable: an argument of `forward`
would be simpler, but some families do not pass it on. `_running` opens one step at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from .attention import StepAttention, step_attention
from .attention.plan import Layout
from .pool import Pool

ATTENTION = "plait"

_local = threading.local()


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **extra: Any,
) -> tuple[torch.Tensor, None]:
    """What every attention layer calls: (1, H, T, D) in, (1, T, Hq, D) out."""
    step: StepAttention = _local.step
    out = step.attend(
        layer_of(module),
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        scale=scaling if scaling is not None else query.shape[-1] ** -0.5,
        window=extra.get("sliding_window"),
        softcap=extra.get("softcap"),
        sinks=extra.get("s_aux"),
    )
    return out[None], None


AttentionInterface.register(ATTENTION, _attend)


def layer_of(module: torch.nn.Module) -> int:
    index = module.layer_idx
    assert isinstance(index, int)
    return index


@contextmanager
def _running(step: StepAttention) -> Iterator[None]:
    assert getattr(_local, "step", None) is None, "steps do not nest"
    _local.step = step
    try:
        yield
    finally:
        _local.step = None


def run_packed(
    model: torch.nn.Module,
    step: StepAttention,
    ids: torch.Tensor,
    positions: torch.Tensor,
    keep: torch.Tensor,
) -> torch.Tensor:
    """Logits (len(keep), V) of the rows to keep."""
    with _running(step):
        out = model(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=keep
        )
    logits: torch.Tensor = out.logits[0]
    return logits


class Forward(Protocol):
    """Packed rows to logits of the rows to keep."""

    def __call__(
        self,
        step: StepAttention,
        ids: torch.Tensor,
        positions: torch.Tensor,
        keep: torch.Tensor,
    ) -> torch.Tensor: ...


class FamilyForward:
    """The forward of any supported family, by its own Hugging Face code."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(
        self,
        step: StepAttention,
        ids: torch.Tensor,
        positions: torch.Tensor,
        keep: torch.Tensor,
    ) -> torch.Tensor:
        return run_packed(self.model, step, ids, positions, keep)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A step's rows as tensors."""

    layout: Layout
    positions: torch.Tensor
    slots: torch.Tensor
    keep: torch.Tensor
    step: StepAttention


class Runner:
    """A forward and its pool: turns a laid-out step into logits."""

    def __init__(self, forward: Forward, pool: Pool) -> None:
        self.forward = forward
        self.pool = pool
        self._last: _Rows | None = None

    @torch.inference_mode()
    def run(self, layout: Layout) -> torch.Tensor:
        """Logits of every chunk that samples, in packing order."""
        ids: list[int] = []
        for chunk in layout.chunks:
            ids += chunk.request.tokens[chunk.start : chunk.start + chunk.count]
        rows = self._rows(layout)
        tokens = torch.tensor(ids, device=self.pool.device)
        return self.forward(rows.step, tokens, rows.positions, rows.keep)

    def release(self) -> None:
        """Give the memory of weights and KV back; nothing can be run any more."""
        self._last = None
        self.pool.release()
        del self.forward

    def _rows(self, layout: Layout) -> _Rows:
        """The step's tensors: those of the last step moved on by one, when that is all it is."""
        last, self._last = self._last, None
        if (
            last is not None
            and last.layout.serial == layout.serial
            and last.layout.grown + 1 == layout.grown
        ):
            last.positions.add_(1)
            last.slots.add_(1)
            last.step.advance(layout)
            rows = replace(last, layout=layout)
        else:
            rows = self._new_rows(layout)
        if layout.grown < layout.horizon:  # else its memory need not outlive the step
            self._last = rows
        return rows

    def _new_rows(self, layout: Layout) -> _Rows:
        device = self.pool.device
        positions, slots, keep = _numbers(layout, self.pool.page_size)
        position_row = torch.tensor(positions, device=device)
        slot_row = torch.tensor(slots, device=device)
        step = step_attention(self.pool, layout, slot_row, position_row)
        return _Rows(layout, position_row, slot_row, torch.tensor(keep, device=device), step)


def _numbers(layout: Layout, page_size: int) -> tuple[list[int], list[int], list[int]]:
    """Positions and slots of every row, and the rows whose logits are wanted.

    At least one row is kept: models cannot take none.
    """
    positions: list[int] = []
    slots: list[int] = []
    keep: list[int] = []
    for chunk in layout.chunks:
        positions += range(chunk.start, chunk.end)
        for start, length in chunk.request.runs(chunk.start, chunk.end, page_size):
            slots += range(start, start + length)
        if chunk.samples:
            keep.append(len(positions) - 1)
    return positions, slots, keep or [0]
