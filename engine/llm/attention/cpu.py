"""Attention on a CPU by torch's operators: runs are read in place, as views of the pool."""

from __future__ import annotations

import torch

from ..pool import Pool
from .calls import CallPlan, OwnCall, PartCall, TailCall, WideCall
from .levels import Levels
from .partial import attend_part
from .plan import Layout
from .planner import CallPlanner
from .step import Asked, PlannedAttention, merged
from .wide import attend_wide, can_attend_wide


class CpuAttention(PlannedAttention[CallPlan]):
    """One step's operator calls."""

    def __init__(
        self, pool: Pool, layout: Layout, slots: torch.Tensor, positions: torch.Tensor
    ) -> None:
        super().__init__(pool, layout, slots)
        self._positions = positions
        self._pool_slots = pool.pages * pool.page_size

    def _plan(self, window: int | None, plain: bool) -> CallPlan:
        kind = self.pool.dtype
        # Only fp16 can overflow, and so leave a NaN, on what a request happens to say.
        planner = CallPlanner(
            self._layout, self._positions, window, self._pool_slots, uneven=kind != torch.float16
        )
        return planner.plan(wide=plain and can_attend_wide(kind))

    def _longer(self, plan: CallPlan) -> CallPlan | None:
        return plan.longer(self._pool_slots)

    def _compute(self, plan: CallPlan, asked: Asked, levels: Levels) -> torch.Tensor:
        for call in plan.calls:
            match call:
                case TailCall():
                    _tail(call, asked, levels)
                case OwnCall():
                    _own(call, asked, levels)
                case PartCall():
                    _part(call, asked, levels)
                case WideCall():
                    _wide(call, asked, levels)
        return merged(levels, asked)


def _wide(call: WideCall, asked: Asked, levels: Levels) -> None:
    end = call.row + call.rows
    alone = len(levels.outs) == 1 and asked.sinks is None
    attend_wide(
        asked.query[call.row : end],
        _read(asked.keys, call),
        _read(asked.values, call),
        asked.scale,
        call.past,
        levels.outs[call.level, call.row : end],
        None if alone else levels.lses[call.level, call.row : end],
    )


def _part(call: PartCall, asked: Asked, levels: Levels) -> None:
    end = call.row + call.rows
    out, lse = attend_part(
        asked.query[call.row : end].transpose(0, 1)[None],
        _read(asked.keys, call).transpose(0, 1)[None],
        _read(asked.values, call).transpose(0, 1)[None],
        scale=asked.scale,
        causal=call.causal,
        mask=call.mask,
        softcap=asked.softcap,
    )
    lse = lse[0].transpose(0, 1)
    if call.blind is not None:
        lse = lse.masked_fill(call.blind[:, None], float("-inf"))
    levels.outs[call.level, call.row : end] = out[0].transpose(0, 1)
    levels.lses[call.level, call.row : end] = lse


def _own(call: OwnCall, asked: Asked, levels: Levels) -> None:
    """Chunks of equal length on themselves, read from what the step has just computed."""
    out, lse = attend_part(
        _chunks(asked.query, call),
        _chunks(asked.own_keys, call),
        _chunks(asked.own_values, call),
        scale=asked.scale,
        causal=True,
        softcap=asked.softcap,
    )
    _chunks(levels.outs[call.level], call).copy_(out)
    _chunks(levels.lses[call.level, ..., None], call).copy_(lse[..., None])


def _chunks(rows: torch.Tensor, call: OwnCall) -> torch.Tensor:
    """(T, H, D) -> (chunks, H, rows, D), a view."""
    mine = rows[call.row : call.row + call.chunks * call.rows]
    return mine.view(call.chunks, call.rows, *rows.shape[1:]).transpose(1, 2)


def _tail(call: TailCall, asked: Asked, levels: Levels) -> None:
    """Single rows: the heads of a group take the place of rows, (B, Hkv, G, D)."""
    count, kv_heads = len(call.rows), asked.keys.shape[1]
    first, query = call.first, asked.query
    mine = query.index_select(0, call.rows) if first is None else query[first : first + count]
    out, lse = attend_part(
        mine.view(count, kv_heads, -1, query.shape[-1]),
        _strided(asked.keys, call, count),
        _strided(asked.values, call, count),
        scale=asked.scale,
        mask=call.mask,
        softcap=asked.softcap,
    )
    out = out.reshape(count, -1, asked.values.shape[-1])
    lse = lse.reshape(count, -1)
    if first is None:
        levels.outs[call.level].index_copy_(0, call.rows, out.float())
        levels.lses[call.level].index_copy_(0, call.rows, lse)
    else:
        levels.outs[call.level, first : first + count] = out
        levels.lses[call.level, first : first + count] = lse


def _strided(pool: torch.Tensor, call: TailCall, count: int) -> torch.Tensor:
    """(slots, Hkv, D) -> (B, Hkv, T, D): runs `stride` slots apart, in place."""
    slot, head, number = pool.stride()
    return pool.as_strided(
        (count, pool.shape[1], call.length, pool.shape[2]),
        (call.stride * slot, head, slot, number),
        pool.storage_offset() + call.start * slot,
    )


def _read(pool: torch.Tensor, call: PartCall | WideCall) -> torch.Tensor:
    """(slots, Hkv, D) -> (T, Hkv, D), a view unless gathered."""
    if call.slots is not None:
        return pool.index_select(0, call.slots)
    return pool[call.start : call.start + call.length]
