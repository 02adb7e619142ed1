"""Attention on a CPU: runs of slots are read in place, as views of the pool.

One softmax over the levels' log-sum-exps merges the partial results of every row.
"""

from __future__ import annotations

import torch

from ..pool import Pool
from .calls import CallPlan, CallPlanner, PartCall, TailCall, WideCall
from .partial import attend_part
from .plan import Layout
from .wide import attend_wide, can_attend_wide


class CpuAttention:
    """One step's calls, the same for every layer with the same window."""

    def __init__(
        self, pool: Pool, layout: Layout, slots: torch.Tensor, positions: torch.Tensor
    ) -> None:
        self._pool = pool
        self._layout = layout
        self._slots = slots
        self._positions = positions
        self._pool_slots = pool.pages * pool.page_size
        self._plans: dict[tuple[int | None, bool], CallPlan] = {}

    def advance(self, layout: Layout) -> None:
        """The next decode step; slots and positions were moved on in place."""
        self._layout = layout
        longer = {name: plan.longer(self._pool_slots) for name, plan in self._plans.items()}
        self._plans = {name: plan for name, plan in longer.items() if plan is not None}

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
        plan = self._planned(window, softcap is None and key.shape == value.shape)
        levels = plan.levels
        rows, heads, _ = query.shape
        outs = query.new_zeros(levels, rows, heads, value.shape[-1])
        lses = torch.full((levels, rows, heads), float("-inf"), dtype=torch.float32)
        for call in plan.calls:
            if isinstance(call, TailCall):
                _tail(call, query, keys, values, scale, softcap, outs, lses)
            elif isinstance(call, WideCall):
                end = call.row + call.rows
                attend_wide(
                    query[call.row : end],
                    _read(keys, call),
                    _read(values, call),
                    scale,
                    call.past,
                    outs[call.level, call.row : end],
                    lses[call.level, call.row : end] if levels > 1 or sinks is not None else None,
                )
            else:
                _part(call, query, keys, values, scale, softcap, outs, lses)
        return merge(outs, lses, sinks)

    def _planned(self, window: int | None, plain: bool) -> CallPlan:
        name = (window, plain)
        plan = self._plans.get(name)
        if plan is None:
            dtype = self._pool.dtype
            planner = CallPlanner(self._layout, self._positions, window, self._pool_slots, dtype)
            plan = planner.plan(wide=plain and can_attend_wide(dtype))
            self._plans[name] = plan
        return plan


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


def _part(
    call: PartCall,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    softcap: float | None,
    outs: torch.Tensor,
    lses: torch.Tensor,
) -> None:
    end = call.row + call.rows
    out, lse = attend_part(
        query[call.row : end].transpose(0, 1)[None],
        _read(keys, call).transpose(0, 1)[None],
        _read(values, call).transpose(0, 1)[None],
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


def _tail(
    call: TailCall,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    softcap: float | None,
    outs: torch.Tensor,
    lses: torch.Tensor,
) -> None:
    """Single rows: the heads of a group take the place of rows, (B, Hkv, G, D)."""
    count, kv_heads = len(call.rows), keys.shape[1]
    first = call.first
    mine = query.index_select(0, call.rows) if first is None else query[first : first + count]
    asked = mine.view(count, kv_heads, -1, query.shape[-1])
    out, lse = attend_part(
        asked,
        _strided(keys, call, count),
        _strided(values, call, count),
        scale=scale,
        mask=call.mask,
        softcap=softcap,
    )
    out, lse = out.reshape(count, -1, values.shape[-1]), lse.reshape(count, -1)
    if first is None:
        outs[call.level].index_copy_(0, call.rows, out)
        lses[call.level].index_copy_(0, call.rows, lse)
    else:
        outs[call.level, first : first + count] = out
        lses[call.level, first : first + count] = lse


def _strided(pool: torch.Tensor, call: TailCall, count: int) -> torch.Tensor:
    """(slots, Hkv, D) -> (B, Hkv, T, D): runs `stride` slots apart, in place."""
    slot, head, number = pool.stride()
    return pool.as_strided(
        (count, pool.shape[1], call.length, pool.shape[2]),
        (call.stride * slot, head, slot, number),
        call.start * slot,
    )


def _read(pool: torch.Tensor, call: PartCall | WideCall) -> torch.Tensor:
    """(slots, Hkv, D) -> (T, Hkv, D), a view unless gathered."""
    if call.slots is not None:
        return pool.index_select(0, call.slots)
    return pool[call.start : call.start + call.length]
