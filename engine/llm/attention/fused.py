"""Attention on a CPU by our own kernel: all items of a step in one call a layer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..native import native
from ..native.step import Step
from ..pool import Pool
from ..request import Run
from .levels import Levels
from .plan import Item, Layout
from .step import Asked, PlannedAttention

PIECE = 512
"""Slots that are worth a task of their own, where there are fewer items than threads."""
FEW_ROWS = 8
"""More rows are several tasks as they are, and would have to keep more partial results."""
MOST = 256
"""Numbers of a head that the kernel has room for."""


def fits(dtype: torch.dtype, key_size: int, value_size: int) -> bool:
    """Whether the kernel is there and has room for heads of this type and size."""
    known = dtype in (torch.float32, torch.bfloat16) and max(key_size, value_size) <= MOST
    return known and native().library is not None


@dataclass(frozen=True, slots=True)
class FusedPlan:
    """Units of work for the kernel."""

    units: torch.Tensor
    """(n, 6): first row, rows, first position, slots, first run, level."""
    runs: torch.Tensor
    """(m, 2): first slot, slots."""
    growing: torch.Tensor
    """(k, 2): units that get a slot longer with every decode step, and their last runs."""
    levels: int

    def only(self, keep: torch.Tensor) -> torch.Tensor:
        """The units of some rows, in their order, numbered as if there were no others."""
        first, rows = self.units[:, 0].contiguous(), self.units[:, 1]
        begin, end = torch.searchsorted(keep, first), torch.searchsorted(keep, first + rows)
        units = self.units.clone()
        units[:, 0], units[:, 1] = begin, end - begin
        return units[end > begin]

    def longer(self) -> FusedPlan:
        """The same for the next decode step."""
        units, runs = self.units.clone(), self.runs.clone()
        units[self.growing[:, 0], 3] += 1
        runs[self.growing[:, 1], 1] += 1
        return replace(self, units=units, runs=runs)


def plan_units(layout: Layout) -> FusedPlan:
    """A unit for every item, or several. What a window hides follows from positions."""
    items = list(layout.items)
    most = max(1, 2 * torch.get_num_threads() // max(1, len(items)))
    used = [0] * layout.rows
    units: list[tuple[int, ...]] = []
    runs: list[Run] = []
    growing: list[tuple[int, int]] = []
    for item in items:
        for piece in _pieces(item, most):
            first = len(runs)
            runs += piece.runs
            if piece.tail:
                growing.append((len(units), len(runs) - 1))
            rows = slice(piece.row, piece.row + piece.rows)
            level = max(used[rows])
            used[rows] = [level + 1] * piece.rows
            units.append((piece.row, piece.rows, piece.position, piece.length, first, level))
    return FusedPlan(
        units=torch.tensor(units, dtype=torch.int64).view(-1, 6),
        runs=torch.tensor(runs, dtype=torch.int64).view(-1, 2),
        growing=torch.tensor(growing, dtype=torch.int64).view(-1, 2),
        levels=max(used, default=0),
    )


def _pieces(item: Item, most: int) -> Iterator[Item]:
    """The item, in several where that keeps more threads busy."""
    count = max(1, min(most, item.length // PIECE)) if item.rows <= FEW_ROWS else 1
    size = -(-item.length // count)
    for first in range(0, item.length, size):
        length = min(size, item.length - first)
        yield replace(
            item,
            runs=tuple(_stretch(item.runs, first, length)),
            position=item.position + first,
            length=length,
            tail=item.tail and first + length == item.length,
        )


def _stretch(runs: tuple[Run, ...], skip: int, length: int) -> Iterator[Run]:
    """`length` slots of the runs, from number `skip` on."""
    for start, count in runs:
        taken = min(count - skip, length)
        if taken > 0:
            yield start + skip, taken
            length -= taken
        skip = max(0, skip - count)


class FusedAttention(PlannedAttention[FusedPlan]):
    """One step's attention by the kernel."""

    def __init__(
        self, pool: Pool, layout: Layout, slots: torch.Tensor, positions: torch.Tensor
    ) -> None:
        super().__init__(pool, layout, slots)
        self._positions = positions
        self._kept: tuple[torch.Tensor, ...] = ()
        """What the kernel reads of the rows that are left in the last layer."""

    def _plan(self, window: int | None, plain: bool) -> FusedPlan:
        return plan_units(self._layout)

    def _longer(self, plan: FusedPlan) -> FusedPlan | None:
        return plan.longer()

    def told(self, out: torch.Tensor) -> Step:
        """Attention of any layer that has neither sinks nor a soft cap, with out (T, Hq, D), but
        for its query, its pool, its scale and its window."""
        rows, heads, size = out.shape
        plan, levels = self._prepare((None, True), (rows, heads, size), out.device)
        return self._told(plan, levels, out, self.pool.keys[0])

    def told_of(self, keep: torch.Tensor, out: torch.Tensor) -> Step:
        """The same where only some rows, in their order, are left of all that the step has."""
        _, heads, size = out.shape
        plan, levels = self._prepare((None, True), (len(keep), heads, size), out.device)
        step = self._told(plan, levels, out, self.pool.keys[0])
        if len(keep) < len(out):
            units, positions = self._kept = plan.only(keep), self._positions[keep]
            step.rows, step.units = len(keep), len(units)
            step.unit, step.position = units.data_ptr(), positions.data_ptr()
        return step

    def _told(self, plan: FusedPlan, levels: Levels, out: torch.Tensor, keys: torch.Tensor) -> Step:
        return Step(
            rows=len(out),
            heads=out.shape[1],
            kv_heads=keys.shape[1],
            key_size=keys.shape[2],
            value_size=out.shape[2],
            half=out.dtype == torch.bfloat16,
            threads=torch.get_num_threads(),
            units=len(plan.units),
            levels=len(levels.outs),
            out=out.data_ptr(),
            outs=levels.outs.data_ptr(),
            lses=levels.lses.data_ptr(),
            unit=plan.units.data_ptr(),
            run=plan.runs.data_ptr(),
            position=self._positions.data_ptr(),
        )

    def _compute(self, plan: FusedPlan, asked: Asked, levels: Levels) -> torch.Tensor:
        library = native().library
        assert library is not None, "planned for a kernel that is not there"
        keys, values = asked.keys, asked.values
        query = asked.query.to(keys.dtype)
        if query.stride(-1) != 1:
            query = query.contiguous()
        out = query.new_empty(*query.shape[:2], values.shape[-1])
        sinks = None if asked.sinks is None else asked.sinks.float().contiguous()
        step = self._told(plan, levels, out, keys)
        step.window, step.scale, step.softcap = asked.window or 0, asked.scale, asked.softcap or 0.0
        step.query_row, step.query_head = query.stride(0), query.stride(1)
        step.query, step.keys, step.values = query.data_ptr(), keys.data_ptr(), values.data_ptr()
        step.sinks = None if sinks is None else sinks.data_ptr()
        if library.plait_attend(ctypes.byref(step)):
            raise MemoryError("no memory left for attention's tasks")
        return out.to(asked.query.dtype)
