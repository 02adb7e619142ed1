"""Items of any shape at once, by our own kernel: what it is told, and the call."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace

import torch

from ..native import native
from ..request import Run
from .calls import FusedCall
from .levels import Levels
from .plan import Item, Layout
from .step import Asked

PIECE = 512
"""Slots that are worth a task of their own, where there are fewer items than threads."""


FEW_ROWS = 8
"""More rows are several tasks as they are, and would have to keep more partial results."""
MOST = 256
"""Numbers of a head that the kernel has room for."""
_WHOLE = [
    *("rows", "heads", "kv_heads", "key_size", "value_size", "half", "threads", "units"),
    *("levels", "window", "query_row", "query_head"),
]
_PLACES = ["query", "keys", "values", "out", "outs", "lses", "unit", "run", "position", "sinks"]


class Step(ctypes.Structure):
    """What the kernel is told of one layer: `Step` in native/attention.c."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in _WHOLE]
        + [("scale", ctypes.c_float), ("softcap", ctypes.c_float)]
        + [(name, ctypes.c_void_p) for name in _PLACES]
    )


def fits(dtype: torch.dtype, key_size: int, value_size: int) -> bool:
    """Whether the kernel is there and has room for heads of this type and size."""
    known = dtype in (torch.float32, torch.bfloat16) and max(key_size, value_size) <= MOST
    return known and native().library is not None


class UnitList:
    """Collects the items that the kernel computes in one call."""

    def __init__(self, layout: Layout) -> None:
        items = sum(1 for _ in layout.items)
        self._pieces = max(1, 2 * torch.get_num_threads() // max(1, items))
        self._units: list[tuple[int, int, int, int, int, int]] = []
        self._runs: list[Run] = []
        self._growing: list[tuple[int, int]] = []

    def pieces(self, item: Item) -> Iterator[Item]:
        """The item, in several where that keeps more threads busy."""
        few = item.rows <= FEW_ROWS
        count = max(1, min(self._pieces, item.length // PIECE)) if few else 1
        size = -(-item.length // count)
        for first in range(0, item.length, size):
            length = min(size, item.length - first)
            last = first + length == item.length
            yield replace(
                item,
                runs=tuple(_stretch(item.runs, first, length)),
                position=item.position + first,
                length=length,
                tail=item.tail and last,
            )

    def add(self, item: Item, level: int) -> None:
        first = len(self._runs)
        self._runs += item.runs
        if item.tail:
            self._growing.append((len(self._units), len(self._runs) - 1))
        self._units.append((item.row, item.rows, item.position, item.length, first, level))

    def call(self) -> FusedCall:
        return FusedCall(
            units=torch.tensor(self._units, dtype=torch.int64).view(-1, 6),
            runs=torch.tensor(self._runs, dtype=torch.int64).view(-1, 2),
            growing=torch.tensor(self._growing, dtype=torch.int64).view(-1, 2),
        )


def _stretch(runs: tuple[Run, ...], skip: int, length: int) -> Iterator[Run]:
    """`length` slots of the runs, from number `skip` on."""
    for start, count in runs:
        taken = min(count - skip, length)
        if taken > 0:
            yield start + skip, taken
            length -= taken
        skip = max(0, skip - count)


def attend_fused(
    call: FusedCall, asked: Asked, levels: Levels, positions: torch.Tensor
) -> torch.Tensor:
    """(T, Hq, D): fills the call's levels, and merges them with those that others have filled."""
    library = native().library
    assert library is not None, "planned for a kernel that is not there"
    keys, values = asked.keys, asked.values
    query = asked.query.to(keys.dtype)
    if query.stride(-1) != 1:
        query = query.contiguous()
    out = query.new_empty(*query.shape[:2], values.shape[-1])
    sinks = None if asked.sinks is None else asked.sinks.float().contiguous()
    step = Step(
        rows=len(query),
        heads=query.shape[1],
        kv_heads=keys.shape[1],
        key_size=keys.shape[2],
        value_size=values.shape[2],
        half=keys.dtype == torch.bfloat16,
        threads=torch.get_num_threads(),
        units=len(call.units),
        levels=len(levels.outs),
        window=asked.window or 0,
        query_row=query.stride(0),
        query_head=query.stride(1),
        scale=asked.scale,
        softcap=asked.softcap or 0.0,
        query=query.data_ptr(),
        keys=keys.data_ptr(),
        values=values.data_ptr(),
        out=out.data_ptr(),
        outs=levels.outs.data_ptr(),
        lses=levels.lses.data_ptr(),
        unit=call.units.data_ptr(),
        run=call.runs.data_ptr(),
        position=positions.data_ptr(),
        sinks=None if sinks is None else sinks.data_ptr(),
    )
    if library.plait_attend(ctypes.byref(step)):
        raise MemoryError("no memory left for attention's tasks")
    return out.to(asked.query.dtype)
