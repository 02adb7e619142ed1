"""A CPU step's items as operator calls: which operator, which rows, which slots, which level.

Partial results of a row land in levels: a call writes the first level that its rows have free.
Three kinds of calls, by what is fastest:
    WideCall   many rows x many slots, by packed matrix products
    TailCall   single rows whose runs lie evenly spaced in the pool, read as one strided view
    PartCall   anything else, by the flash operator, with a mask where a window cuts
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .plan import Item, Layout

GATHER_RUNS = 4
"""From this many runs on, an item's slots are copied together instead of read run by run."""
WIDE_ROWS = 32
WIDE_AREA = 16384
"""Rows and rows x slots from which the packed products beat the flash operator."""
TAIL_WASTE = 1.5
"""Longest over shortest run that one strided call may take in."""


@dataclass(frozen=True, slots=True)
class PartCall:
    """Rows x one run of slots, or slots gathered."""

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


@dataclass(frozen=True, slots=True)
class WideCall:
    """Rows x slots by packed products."""

    row: int
    rows: int
    start: int
    length: int
    slots: torch.Tensor | None
    past: int | None
    """With a number, row i sees the first past + i + 1 slots; None: all of them."""
    level: int


@dataclass(frozen=True, slots=True)
class TailCall:
    """Single rows at a constant stride through the pool."""

    rows: torch.Tensor
    start: int
    stride: int
    length: int
    mask: torch.Tensor | None
    """(rows, 1, 1, length), where runs differ in length."""
    level: int


Call = PartCall | WideCall | TailCall
Part = tuple[int, int, int, torch.Tensor | None]
"""(start, length, position, slots)."""


class CallPlanner:
    """Plans the calls of one layout for one window."""

    def __init__(
        self, layout: Layout, positions: torch.Tensor, window: int | None, pool_slots: int
    ) -> None:
        self._layout = layout
        self._positions = positions
        self._window = window
        self._pool_slots = pool_slots
        self._used = [0] * layout.rows

    def plan(self, wide: bool) -> tuple[list[Call], int]:
        """The calls, and the number of levels they need. `wide` allows packed products."""
        calls: list[Call] = []
        tails: list[tuple[int, int, int]] = []
        items = list(self._layout.items)
        while items:
            item = items.pop(0)
            if wide and self._window is None:
                own = items[0] if items else None
                if own is not None and own.causal and own.row == item.row and _same(item, own):
                    if _is_wide(item.rows, item.length + own.length):
                        calls.append(self._wide(item, own))
                        items.pop(0)
                        continue
                elif _is_wide(item.rows, item.length):
                    calls.append(self._wide(item, None))
                    continue
            for part in _parts(item):
                if item.rows == 1 and part[3] is None:
                    cut = self._cut_tail(item, part)
                    if cut is not None:
                        tails.append((item.row, *cut))
                    continue
                call = self._part(item, part)
                if call is not None:
                    calls.append(call)
        calls += self._tails(tails)
        return calls, max(self._used, default=0)

    # ---- wide ------------------------------------------------------------------------------

    def _wide(self, item: Item, own: Item | None) -> WideCall:
        runs = item.runs if own is None else _joined(item, own)
        length = item.length if own is None else item.length + own.length
        past = 0 if item.causal else None
        if own is not None:
            past = item.length
        slots = None if len(runs) == 1 else _slots(runs)
        level = self._level(item.row, item.rows)
        return WideCall(item.row, item.rows, runs[0][0], length, slots, past, level)

    # ---- single rows -----------------------------------------------------------------------

    def _cut_tail(self, item: Item, part: Part) -> tuple[int, int] | None:
        """(start, length) of what the row's window leaves of a run."""
        start, length, position, _ = part
        if self._window is not None:
            row = int(self._positions[item.row])
            cut = max(0, row - self._window + 1 - position)
            start, length = start + cut, length - cut
        return (start, length) if length > 0 else None

    def _tails(self, tails: list[tuple[int, int, int]]) -> list[Call]:
        """Group (row, start, length) runs that one strided view can read."""
        calls: list[Call] = []
        tails.sort(key=lambda tail: tail[1])
        at = 0
        while at < len(tails):
            group = self._even_group(tails, at)
            calls.append(self._tail_call(group))
            at += len(group)
        return calls

    def _even_group(self, tails: list[tuple[int, int, int]], at: int) -> list[tuple[int, int, int]]:
        group = [tails[at]]
        shortest = longest = tails[at][2]
        stride = 0
        for tail in tails[at + 1 :]:
            gap = tail[1] - group[-1][1]
            low, high = min(shortest, tail[2]), max(longest, tail[2])
            fits = tail[1] + high <= self._pool_slots and high <= low * TAIL_WASTE
            if not fits or (stride and gap != stride) or self._used_by(group, tail[0]):
                break
            group.append(tail)
            shortest, longest, stride = low, high, gap
        return group

    def _used_by(self, group: list[tuple[int, int, int]], row: int) -> bool:
        """A row can be in a call once, and all rows of a call write the same level."""
        used = self._used
        return any(other[0] == row for other in group) or used[row] != used[group[0][0]]

    def _tail_call(self, group: list[tuple[int, int, int]]) -> TailCall:
        rows = [tail[0] for tail in group]
        longest = max(tail[2] for tail in group)
        level = self._used[rows[0]]
        for row in rows:
            self._used[row] = level + 1
        mask = None
        if any(tail[2] != longest for tail in group):
            lengths = torch.tensor([tail[2] for tail in group])
            hidden = torch.arange(longest)[None, :] >= lengths[:, None]
            mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None, None]
        stride = group[1][1] - group[0][1] if len(group) > 1 else 0
        return TailCall(torch.tensor(rows), group[0][1], stride, longest, mask, level)

    # ---- parts -----------------------------------------------------------------------------

    def _part(self, item: Item, part: Part) -> PartCall | None:
        """A call for one part, cut and masked to the window; None when no row sees it."""
        start, length, position, slots = part
        window = self._window
        if window is None:
            return self._part_call(item, start, length, slots, item.causal, None, None)
        rows = self._positions[item.row : item.row + item.rows]
        lowest, highest = int(rows.min()), int(rows.max())
        cut = max(0, min(length, lowest - window + 1 - position))  # before every row's window
        if cut == length:
            return None
        if slots is None:
            start += cut
        else:
            slots = slots[cut:]
        position, length = position + cut, length - cut
        if position > highest - window:
            causal = item.causal
            return self._part_call(item, start, length, slots, causal, None, None)
        seen = torch.arange(position, position + length)
        hidden = seen[None, :] <= rows[:, None] - window
        if item.causal:
            hidden |= seen[None, :] > rows[:, None]
        blind = hidden.all(dim=1)
        mask = torch.zeros(hidden.shape).masked_fill_(hidden & ~blind[:, None], float("-inf"))
        seeing = blind if bool(blind.any()) else None
        return self._part_call(item, start, length, slots, False, mask[None, None], seeing)

    def _part_call(
        self,
        item: Item,
        start: int,
        length: int,
        slots: torch.Tensor | None,
        causal: bool,
        mask: torch.Tensor | None,
        blind: torch.Tensor | None,
    ) -> PartCall:
        level = self._level(item.row, item.rows)
        return PartCall(item.row, item.rows, start, length, slots, causal, mask, blind, level)

    def _level(self, row: int, rows: int) -> int:
        level = max(self._used[row : row + rows])
        self._used[row : row + rows] = [level + 1] * rows
        return level


def _is_wide(rows: int, length: int) -> bool:
    return rows >= WIDE_ROWS and rows * length >= WIDE_AREA


def _same(item: Item, own: Item) -> bool:
    """`own` is the chunk that goes on where the past in `item` ends, for the same rows."""
    return item.rows == own.rows and item.position + item.length == own.position


def _joined(item: Item, own: Item) -> list[tuple[int, int]]:
    runs = [*item.runs, *own.runs]
    last = len(item.runs) - 1
    if sum(runs[last]) == runs[last + 1][0]:
        runs[last : last + 2] = [(runs[last][0], runs[last][1] + runs[last + 1][1])]
    return runs


def _slots(runs: list[tuple[int, int]] | tuple[tuple[int, int], ...]) -> torch.Tensor:
    return torch.cat([torch.arange(start, start + length) for start, length in runs])


def _parts(item: Item) -> list[Part]:
    """The item's runs, or all of them gathered."""
    if len(item.runs) >= GATHER_RUNS or (item.causal and len(item.runs) > 1):
        return [(0, item.length, item.position, _slots(item.runs))]
    parts: list[Part] = []
    position = item.position
    for start, length in item.runs:
        parts.append((start, length, position, None))
        position += length
    return parts
