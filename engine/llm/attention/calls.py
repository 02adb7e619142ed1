"""A CPU step's items as operator calls: which operator, which rows, which slots, which level.

Partial results of a row land in levels: a call writes the first level that its rows have free.
Three kinds of calls, by what is fastest:
    WideCall   many rows x many slots, by packed matrix products
    TailCall   single rows whose runs lie evenly spaced in the pool, read as one strided view
    PartCall   anything else, by the flash operator, with a mask where a window cuts
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from .plan import Item, Layout

GATHER_RUNS = 4
"""From this many runs on, an item's slots are copied together instead of read run by run."""
GATHER_TAIL_RUNS = 16
"""The same for a single row, whose runs may be read together with those of other rows."""
WIDE_ROWS = 64
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

    first: int | None
    """First row, when the rows are neighbours in this order."""
    rows: torch.Tensor
    start: int
    stride: int
    length: int
    """Of the longest run."""
    lengths: torch.Tensor | None
    """Of every run, where they differ."""
    mask: torch.Tensor | None
    """(rows, 1, 1, length): hides what lies behind a shorter run."""
    level: int

    @property
    def end(self) -> int:
        """Behind the last slot that the view covers."""
        return self.start + self.stride * (len(self.rows) - 1) + self.length

    def longer(self) -> TailCall:
        """The same for the next decode step."""
        if self.lengths is None:
            return replace(self, length=self.length + 1)
        lengths = self.lengths + 1
        assert self.mask is not None
        mask = _tail_mask(lengths, self.length + 1, self.mask.dtype)
        return replace(self, length=self.length + 1, lengths=lengths, mask=mask)


Call = PartCall | WideCall | TailCall
Part = tuple[int, int, int, torch.Tensor | None]
"""(start, length, position, slots)."""
Tail = tuple[int, int, int, bool]
"""(row, start, length, whether it grows from step to step): a single row's run."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A step's calls."""

    calls: list[Call]
    levels: int
    """Partial results that a row has at most."""
    growing: frozenset[int]
    """Which calls get longer from one decode step to the next."""
    steady: bool
    """Whether the next decode step can be had from this plan."""

    def longer(self, pool_slots: int) -> CallPlan | None:
        """The plan of the next decode step; None when it has to be made anew."""
        if not self.steady:
            return None
        calls = list(self.calls)
        for at in self.growing:
            call = calls[at]
            assert isinstance(call, TailCall)
            calls[at] = longer = call.longer()
            if longer.end > pool_slots:
                return None
        return replace(self, calls=calls)


class CallPlanner:
    """Plans the calls of one layout for one window."""

    def __init__(
        self,
        layout: Layout,
        positions: torch.Tensor,
        window: int | None,
        pool_slots: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._dtype = dtype
        self._layout = layout
        self._positions = positions
        self._window = window
        self._pool_slots = pool_slots
        self._used = [0] * layout.rows

    def plan(self, wide: bool) -> CallPlan:
        """The calls. `wide` allows packed products."""
        calls: list[Call] = []
        tails: list[Tail] = []
        steady = self._window is None
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
                        last = part[2] + part[1] == item.position + item.length
                        tails.append((item.row, *cut, item.tail and last))
                    continue
                steady = steady and not item.tail
                call = self._part(item, part)
                if call is not None:
                    calls.append(call)
        growing: set[int] = set()
        for group in self._tail_groups(tails):
            if group[0][3]:
                growing.add(len(calls))
            calls.append(self._tail_call(group))
        levels = max(self._used, default=0)
        return CallPlan(calls, levels, frozenset(growing), steady)

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

    def _tail_groups(self, tails: list[Tail]) -> Iterator[list[Tail]]:
        """Runs that one strided view can read, group by group."""
        tails.sort(key=lambda tail: tail[1])
        at = 0
        while at < len(tails):
            group = self._even_group(tails, at)
            yield group
            at += len(group)

    def _even_group(self, tails: list[Tail], at: int) -> list[Tail]:
        group = [tails[at]]
        shortest = longest = tails[at][2]
        stride = 0
        for tail in tails[at + 1 :]:
            gap = tail[1] - group[-1][1]
            low, high = min(shortest, tail[2]), max(longest, tail[2])
            fits = tail[1] + high <= self._pool_slots and high <= low * TAIL_WASTE
            if not fits or (stride and gap != stride) or self._apart(group, tail):
                break
            group.append(tail)
            shortest, longest, stride = low, high, gap
        return group

    def _apart(self, group: list[Tail], tail: Tail) -> bool:
        """A row can be in a call once; all rows of a call write one level, and grow or do not."""
        used = self._used
        first = group[0]
        return (
            used[tail[0]] != used[first[0]]
            or tail[3] != first[3]
            or (not tail[3] and any(other[0] == tail[0] for other in group))
        )

    def _tail_call(self, group: list[Tail]) -> TailCall:
        rows = [tail[0] for tail in group]
        longest = max(tail[2] for tail in group)
        level = self._used[rows[0]]
        for row in rows:
            self._used[row] = level + 1
        lengths = mask = None
        if any(tail[2] != longest for tail in group):
            lengths = torch.tensor([tail[2] for tail in group])
            mask = _tail_mask(lengths, longest, self._dtype)
        stride = group[1][1] - group[0][1] if len(group) > 1 else 0
        first = rows[0] if rows == list(range(rows[0], rows[0] + len(rows))) else None
        numbers = torch.tensor(rows)
        return TailCall(first, numbers, group[0][1], stride, longest, lengths, mask, level)

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
        mask = torch.zeros(hidden.shape, dtype=self._dtype)
        mask.masked_fill_(hidden & ~blind[:, None], float("-inf"))
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


def _tail_mask(lengths: torch.Tensor, longest: int, dtype: torch.dtype) -> torch.Tensor:
    hidden = torch.arange(longest)[None, :] >= lengths[:, None]
    mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))
    return mask[:, None, None]


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
    most = GATHER_RUNS if item.rows > 1 else GATHER_TAIL_RUNS
    if len(item.runs) >= most or (item.causal and len(item.runs) > 1):
        return [(0, item.length, item.position, _slots(item.runs))]
    parts: list[Part] = []
    position = item.position
    for start, length in item.runs:
        parts.append((start, length, position, None))
        position += length
    return parts
