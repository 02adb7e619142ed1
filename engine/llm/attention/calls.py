"""A CPU step's items as operator calls: which operator, which rows, which slots, which level.

Partial results of a row land in levels: a call writes the first level that its rows have free.
Four kinds of calls, by what is fastest:
    WideCall   many rows x many slots, by packed matrix products
    TailCall   single rows whose runs lie evenly spaced in the pool, read as one strided view
    OwnCall    chunks of equal length, each on its own rows
    PartCall   anything else, by the flash operator, with a mask where a window cuts
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


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
        mask = tail_mask(lengths, self.length + 1)
        return replace(self, length=self.length + 1, lengths=lengths, mask=mask)


@dataclass(frozen=True, slots=True)
class OwnCall:
    """Neighbouring chunks of `rows` rows each: row i of a chunk sees its first i + 1 rows."""

    row: int
    chunks: int
    rows: int
    level: int


Call = PartCall | WideCall | TailCall | OwnCall


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


def tail_mask(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """(rows, 1, 1, longest): hides what lies behind a shorter run."""
    hidden = torch.arange(longest)[None, :] >= lengths[:, None]
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
    return mask[:, None, None]
