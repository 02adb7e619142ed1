"""A step's items as batches of sequences for a variable-length attention kernel.

A sequence is some query rows and the slots they read, gathered side by side. Shared runs and
private ends go in two batches: without a mask, and causal (aligned at the end, so a chunk sees
everything before it). With a window nothing is shared: every chunk is one sequence of what its
rows can see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..request import Run
from .partial import attend_plainly
from .plan import Item, Layout


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences of one kernel call."""

    rows: torch.Tensor
    """Which row of the step each query is."""
    slots: torch.Tensor
    """Which slot each key is."""
    row_ends: torch.Tensor
    """Queries before each sequence, and in all (int32)."""
    slot_ends: torch.Tensor
    most_rows: int
    most_slots: int
    causal: bool
    parts: tuple[tuple[slice, slice], ...]
    """(queries, slots) of each sequence."""
    levels: torch.Tensor
    """Level that each query's partial result goes to."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A step's batches."""

    batches: list[Batch]
    levels: int
    """Partial results that a row has at most."""


class VarlenKernel(Protocol):
    """query (Tq, Hq, D) over key and value (Tk, Hkv, D): output and log-sum-exp (Tq, Hq)."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        batch: Batch,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclass(frozen=True, slots=True)
class _Sequence:
    row: int
    rows: int
    runs: Sequence[Run]
    causal: bool


def plan_batches(layout: Layout, window: int | None, device: torch.device) -> BatchPlan:
    """The batches of a layout."""
    sequences = _shared(layout) if window is None else _windowed(layout, window)
    used = [0] * layout.rows
    batches: list[Batch] = []
    for causal in (False, True):
        part = [s for s in sequences if s.causal is causal]
        if part:
            batches.append(_batch(part, causal, used, device))
    return BatchPlan(batches, max(used, default=0))


def _shared(layout: Layout) -> list[_Sequence]:
    """One sequence per item, a chunk joined with the past it alone reads."""
    sequences: list[_Sequence] = []
    for item in layout.items:
        last = sequences[-1] if sequences else None
        if item.causal and last is not None and (last.row, last.rows) == (item.row, item.rows):
            sequences[-1] = _Sequence(item.row, item.rows, [*last.runs, *item.runs], True)
        else:
            sequences.append(_Sequence(item.row, item.rows, item.runs, item.causal))
    return sequences


def _windowed(layout: Layout, window: int) -> list[_Sequence]:
    """One sequence per chunk: the slots from the first that its first row sees."""
    sequences: list[_Sequence] = []
    items = list(layout.items)
    row = 0
    for chunk in layout.chunks:
        seen = [i for i in items if i.row <= row < i.row + i.rows]
        skip = max(0, chunk.start - window + 1)
        runs = _skip_slots(sorted(seen, key=lambda i: i.position), skip)
        sequences.append(_Sequence(row, chunk.count, runs, True))
        row += chunk.count
    return sequences


def _skip_slots(items: Sequence[Item], skip: int) -> list[Run]:
    runs: list[Run] = []
    for item in items:
        for start, length in item.runs:
            cut = min(skip, length)
            skip -= cut
            if cut < length:
                runs.append((start + cut, length - cut))
    return runs


def _batch(
    sequences: Sequence[_Sequence], causal: bool, used: list[int], device: torch.device
) -> Batch:
    rows: list[int] = []
    levels: list[int] = []
    slots: list[torch.Tensor] = []
    row_ends, slot_ends = [0], [0]
    for sequence in sequences:
        mine = range(sequence.row, sequence.row + sequence.rows)
        rows += mine
        level = max(used[r] for r in mine)
        levels += [level] * sequence.rows
        for r in mine:
            used[r] = level + 1
        slots += [torch.arange(start, start + length) for start, length in sequence.runs]
        row_ends.append(len(rows))
        slot_ends.append(slot_ends[-1] + sum(length for _, length in sequence.runs))
    return Batch(
        rows=torch.tensor(rows, device=device),
        slots=torch.cat(slots).to(device),
        row_ends=torch.tensor(row_ends, dtype=torch.int32, device=device),
        slot_ends=torch.tensor(slot_ends, dtype=torch.int32, device=device),
        most_rows=max(s.stop - s.start for s in _slices(row_ends)),
        most_slots=max(s.stop - s.start for s in _slices(slot_ends)),
        causal=causal,
        parts=tuple(zip(_slices(row_ends), _slices(slot_ends), strict=True)),
        levels=torch.tensor(levels, device=device),
    )


def _slices(ends: Sequence[int]) -> list[slice]:
    return [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]


def attend_sequences(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: Batch,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernel written out, sequence by sequence: any device, type and soft cap."""
    outs: list[torch.Tensor] = []
    lses: list[torch.Tensor] = []
    for rows, slots in batch.parts:
        out, lse = attend_plainly(
            query[rows].transpose(0, 1)[None],
            key[slots].transpose(0, 1)[None],
            value[slots].transpose(0, 1)[None],
            scale=scale,
            mask=_mask(rows, slots, batch.causal, window, query.device),
            softcap=softcap,
        )
        outs.append(out[0].transpose(0, 1))
        lses.append(lse[0].transpose(0, 1))
    return torch.cat(outs), torch.cat(lses)


def _mask(
    rows: slice, slots: slice, causal: bool, window: int | None, device: torch.device
) -> torch.Tensor | None:
    if not causal:
        return None
    count, length = rows.stop - rows.start, slots.stop - slots.start
    own = torch.arange(length - count, length, device=device)[:, None]
    seen = torch.arange(length, device=device)[None, :]
    hidden = seen > own
    if window is not None:
        hidden |= seen <= own - window
    return torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))
