"""From a layout's items to operator calls, for one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from .calls import Call, CallPlan, OwnCall, PartCall, WideCall
from .plan import Item, Layout
from .tails import Tail, TailPlanner

GATHER_RUNS = 4
"""From this many runs on, an item's slots are copied together instead of read run by run."""
GATHER_TAIL_RUNS = 16
"""The same for a single row, whose runs may be read together with those of other rows."""
LONG = 8192
"""Slots of one call: what it copies, widens to fp32 or scores takes no more memory, however long
the run. A chunk on itself stays whole, and packed products go by blocks of rows instead."""
OWN_ROWS = 512
"""Rows of one call of chunks on themselves: what it computes stays in the cache."""
WIDE_ROWS = 64
WIDE_AREA = 16384
"""Rows and rows x slots from which the packed products beat the flash operator."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an item: a run of slots, or several gathered."""

    start: int
    length: int
    position: int
    slots: torch.Tensor | None = None

    def cut(self, count: int) -> Part:
        """Without its first slots."""
        return self._piece(count, self.length - count)

    def pieces(self) -> Iterator[Part]:
        """The same in parts that are not too long."""
        for first in range(0, self.length, LONG):
            yield self._piece(first, min(LONG, self.length - first))

    def _piece(self, first: int, length: int) -> Part:
        position = self.position + first
        if self.slots is None:
            return Part(self.start + first, length, position)
        return Part(self.start, length, position, self.slots[first : first + length])


class CallPlanner:
    """Plans the calls of one layout for one window."""

    def __init__(
        self, layout: Layout, positions: torch.Tensor, window: int | None, pool_slots: int,
        uneven: bool = True,
    ) -> None:  # fmt: skip
        self._layout = layout
        self._positions = positions
        self._window = window
        self._pool_slots = pool_slots
        self._uneven = uneven
        self._used = [0] * layout.rows
        self._calls: list[Call] = []
        self._tails: list[Tail] = []
        self._steady = window is None

    def plan(self, wide: bool) -> CallPlan:
        """The calls. `wide` allows packed products."""
        items = list(self._layout.items)
        at = 0
        while at < len(items):
            item = items[at]
            own = items[at + 1] if at + 1 < len(items) and _goes_on(item, items[at + 1]) else None
            if wide and self._window is None and _is_wide(item, own):
                self._add_wide(item, own)
                at += 1 if own is None else 2
                continue
            if item.causal and (self._window is None or item.rows <= self._window):
                self._add_own(item)
            else:
                self._add_parts(item)
            at += 1
        return self._with_tails()

    def _with_tails(self) -> CallPlan:
        growing: set[int] = set()
        tails = TailPlanner(self._tails, self._used, self._pool_slots, self._uneven)
        for call, grows in tails.calls():
            if grows:
                growing.add(len(self._calls))
            self._calls.append(call)
        levels = max(self._used, default=0)
        return CallPlan(self._calls, levels, frozenset(growing), self._steady)

    def _level(self, row: int, rows: int) -> int:
        """The first level that these rows have free."""
        level = max(self._used[row : row + rows])
        self._used[row : row + rows] = [level + 1] * rows
        return level

    def _add_wide(self, item: Item, own: Item | None) -> None:
        runs = item.runs if own is None else _joined(item, own)
        length = item.length if own is None else item.length + own.length
        past = 0 if item.causal else None
        if own is not None:
            past = item.length
        slots = None if len(runs) == 1 else _slots(runs)
        level = self._level(item.row, item.rows)
        self._calls.append(WideCall(item.row, item.rows, runs[0][0], length, slots, past, level))

    def _add_own(self, item: Item) -> None:
        """One call for a chunk and those before it that it can join."""
        level = self._level(item.row, item.rows)
        for at in range(len(self._calls) - 1, -1, -1):
            call = self._calls[at]
            if not isinstance(call, OwnCall):
                continue
            behind = call.row + call.chunks * call.rows
            fits = behind + item.rows - call.row <= OWN_ROWS
            if fits and (behind, call.rows, call.level) == (item.row, item.rows, level):
                self._calls[at] = replace(call, chunks=call.chunks + 1)
                return
            break
        self._calls.append(OwnCall(item.row, 1, item.rows, level))

    def _add_parts(self, item: Item) -> None:
        for part in _parts(item):
            if item.rows == 1 and part.slots is None:
                self._add_tail(item, part)
                continue
            self._steady = self._steady and not item.tail
            self._add_part(item, part)

    def _add_tail(self, item: Item, part: Part) -> None:
        """A single row's run, or what its window leaves of it."""
        last = part.position + part.length == item.position + item.length
        if self._window is not None:
            row = int(self._positions[item.row])
            part = part.cut(min(part.length, max(0, row - self._window + 1 - part.position)))
        if part.length > 0:
            self._tails.append(Tail(item.row, part.start, part.length, item.tail and last))

    def _add_part(self, item: Item, part: Part) -> None:
        """A call for one part, cut and masked to the window, unless no row sees it."""
        mask = blind = None
        causal = item.causal
        if self._window is not None:
            rows = self._positions[item.row : item.row + item.rows]
            before_all = int(rows.min()) - self._window + 1 - part.position
            part = part.cut(max(0, min(part.length, before_all)))
            if part.length == 0:
                return
            if part.position <= int(rows.max()) - self._window:
                mask, blind = _window_mask(rows, part, self._window, causal)
                causal = False
        level = self._level(item.row, item.rows)
        start, length, slots = part.start, part.length, part.slots
        self._calls.append(
            PartCall(item.row, item.rows, start, length, slots, causal, mask, blind, level)
        )


def _window_mask(
    rows: torch.Tensor, part: Part, window: int, causal: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What to add to the scores (1, 1, rows, slots), and which rows see nothing at all."""
    seen = torch.arange(part.position, part.position + part.length)
    hidden = seen[None, :] <= rows[:, None] - window
    if causal:
        hidden |= seen[None, :] > rows[:, None]
    blind = hidden.all(dim=1)
    mask = torch.zeros(hidden.shape)
    mask.masked_fill_(hidden & ~blind[:, None], float("-inf"))
    return mask[None, None], blind if bool(blind.any()) else None


def _is_wide(item: Item, own: Item | None) -> bool:
    length = item.length + (own.length if own is not None else 0)
    return item.rows >= WIDE_ROWS and item.rows * length >= WIDE_AREA


def _goes_on(item: Item, own: Item) -> bool:
    """`own` is the chunk that goes on where the past in `item` ends, for the same rows."""
    return (
        own.causal
        and (own.row, own.rows) == (item.row, item.rows)
        and item.position + item.length == own.position
    )


def _joined(item: Item, own: Item) -> list[tuple[int, int]]:
    runs = [*item.runs, *own.runs]
    last = len(item.runs) - 1
    if sum(runs[last]) == runs[last + 1][0]:
        runs[last : last + 2] = [(runs[last][0], runs[last][1] + runs[last + 1][1])]
    return runs


def _slots(runs: list[tuple[int, int]] | tuple[tuple[int, int], ...]) -> torch.Tensor:
    return torch.cat([torch.arange(start, start + length) for start, length in runs])


def _parts(item: Item) -> list[Part]:
    """The item's runs, or all of them gathered; in pieces, where they are long."""
    most = GATHER_RUNS if item.rows > 1 else GATHER_TAIL_RUNS
    parts: list[Part] = []
    if len(item.runs) >= most or (item.causal and len(item.runs) > 1):
        parts.append(Part(0, item.length, item.position, _slots(item.runs)))
    else:
        position = item.position
        for start, length in item.runs:
            parts.append(Part(start, length, position))
            position += length
    return parts if item.causal else [piece for part in parts for piece in part.pieces()]
