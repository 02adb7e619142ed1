"""Attention on a CPU: runs of slots are read in place, as views of the pool.

Partial results of a row land in levels: an item writes the first level its rows have free. One
softmax over the levels' log-sum-exps then merges them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..pool import Pool
from .partial import attend_part
from .plan import Item, Layout

GATHER_RUNS = 4
"""From this many runs on, an item's slots are copied together instead of read run by run."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator call: rows x slots, and the level its partial result goes to."""

    row: int
    rows: int
    start: int
    length: int
    slots: torch.Tensor | None
    """Slots to gather; None reads `[start, start + length)` in place."""
    causal: bool
    mask: torch.Tensor | None
    blind: torch.Tensor | None
    """Rows that see nothing of it."""
    level: int


class CpuAttention:
    """One step's calls, the same for every layer with the same window."""

    def __init__(
        self, pool: Pool, layout: Layout, slots: torch.Tensor, positions: torch.Tensor
    ) -> None:
        self._pool = pool
        self._layout = layout
        self._slots = slots
        self._positions = positions
        self._calls: dict[int | None, tuple[list[Call], int]] = {}

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
        calls, levels = self._planned(window)
        rows, heads, _ = query.shape
        width = value.shape[-1]
        outs = query.new_zeros(levels, rows, heads, width)
        lses = torch.full((levels, rows, heads), float("-inf"), dtype=torch.float32)
        for call in calls:
            end = call.row + call.rows
            out, lse = attend_part(
                query[call.row : end].transpose(0, 1)[None],
                _read(keys, call),
                _read(values, call),
                scale=scale,
                causal=call.causal,
                mask=call.mask,
                softcap=softcap,
            )
            lse = lse[0].transpose(0, 1)
            if call.blind is not None:
                lse = lse.masked_fill(call.blind[:, None], float("-inf"))
            outs[call.level, call.row : end] = out[0].transpose(0, 1)
            lses[call.level, call.row : end] = lse
        return merge(outs, lses, sinks)

    def _planned(self, window: int | None) -> tuple[list[Call], int]:
        if window not in self._calls:
            self._calls[window] = plan_calls(self._layout, self._positions, window)
        return self._calls[window]


def merge(
    outs: torch.Tensor, lses: torch.Tensor, sinks: torch.Tensor | None = None
) -> torch.Tensor:
    """Levels (L, T, H, D) with log-sum-exps (L, T, H) -> (T, H, D)."""
    if len(outs) == 1:
        out = outs[0]
    else:
        weights = torch.softmax(lses, dim=0).to(outs.dtype)
        out = (outs * weights[..., None]).sum(dim=0)
    if sinks is not None:
        lse = torch.logsumexp(lses, dim=0)
        out = out * torch.sigmoid(lse - sinks.float())[..., None].to(out.dtype)
    return out


def plan_calls(
    layout: Layout, positions: torch.Tensor, window: int | None
) -> tuple[list[Call], int]:
    """Items as operator calls, cut to the window; and the number of levels they need."""
    used = [0] * layout.rows
    calls: list[Call] = []
    for item in layout.items:
        for start, length, position, slots in _parts(item):
            part = _windowed(item, start, length, position, slots, positions, window)
            if part is None:
                continue
            level = max(used[item.row : item.row + item.rows])
            used[item.row : item.row + item.rows] = [level + 1] * item.rows
            calls.append(Call(item.row, item.rows, *part, level))
    return calls, max(used, default=0)


Part = tuple[int, int, int, torch.Tensor | None]


def _parts(item: Item) -> list[Part]:
    """(start, length, position, slots): the item's runs, or all of them gathered."""
    if len(item.runs) >= GATHER_RUNS or (item.causal and len(item.runs) > 1):
        slots = torch.cat([torch.arange(s, s + n) for s, n in item.runs])
        return [(0, item.length, item.position, slots)]
    parts: list[Part] = []
    position = item.position
    for start, length in item.runs:
        parts.append((start, length, position, None))
        position += length
    return parts


def _windowed(
    item: Item,
    start: int,
    length: int,
    position: int,
    slots: torch.Tensor | None,
    positions: torch.Tensor,
    window: int | None,
) -> tuple[int, int, torch.Tensor | None, bool, torch.Tensor | None, torch.Tensor | None] | None:
    """The fields of a call from `start` to `blind`; None when no row sees anything of it."""
    if window is None:
        return start, length, slots, item.causal, None, None
    rows = positions[item.row : item.row + item.rows]
    lowest, highest = int(rows.min()), int(rows.max())
    cut = max(0, min(length, lowest - window + 1 - position))  # before every row's window
    if cut == length:
        return None
    start, position, length = start + cut, position + cut, length - cut
    slots = slots[cut:] if slots is not None else None
    if slots is not None:
        start -= cut
    if position > highest - window:
        return start, length, slots, item.causal and cut == 0, None, None
    seen = torch.arange(position, position + length)
    hidden = seen[None, :] <= rows[:, None] - window
    if item.causal:
        hidden |= seen[None, :] > rows[:, None]
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
    blind = hidden.all(dim=1)
    mask = mask.masked_fill_(blind[:, None], 0.0)
    return start, length, slots, False, mask[None, None], blind if blind.any() else None


def _read(pool: torch.Tensor, call: Call) -> torch.Tensor:
    """(slots, Hkv, D) -> (1, Hkv, T, D), a view unless gathered."""
    if call.slots is not None:
        part = pool.index_select(0, call.slots)
    else:
        part = pool[call.start : call.start + call.length]
    return part.transpose(0, 1)[None]
