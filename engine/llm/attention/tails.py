"""Single rows whose runs lie evenly spaced in the pool, so that one strided view reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .calls import TailCall, tail_mask

TAIL_WASTE = 1.5
TAIL_SLACK = 16
"""One strided call may take in runs up to `shortest * TAIL_WASTE + TAIL_SLACK` slots: another call
costs about as much as reading so many slots for nothing, and a plan lasts while tails grow."""


@dataclass(frozen=True, slots=True)
class Tail:
    """One row's run of slots."""

    row: int
    start: int
    length: int
    grows: bool
    """Whether it is a slot longer after every decode step."""


class TailPlanner:
    """Makes calls of tails. `used` counts the levels that every row has used, and is moved on.

    `uneven` allows runs of different lengths in a call. What lies behind a shorter run is masked,
    but read, and a weight of zero does not hide a NaN that another request has left there.
    """

    def __init__(self, tails: list[Tail], used: list[int], pool_slots: int, uneven: bool) -> None:
        self._tails = sorted(tails, key=lambda tail: tail.start)
        self._used = used
        self._pool_slots = pool_slots
        self._uneven = uneven

    def calls(self) -> Iterator[tuple[TailCall, bool]]:
        """The calls, and whether each grows from step to step."""
        at = 0
        while at < len(self._tails):
            group = self._even_group(at)
            yield self._call(group), group[0].grows
            at += len(group)

    def _even_group(self, at: int) -> list[Tail]:
        """As many tails from `at` on as one view can read."""
        group = [self._tails[at]]
        shortest = longest = group[0].length
        stride = 0
        for tail in self._tails[at + 1 :]:
            gap = tail.start - group[-1].start
            low, high = min(shortest, tail.length), max(longest, tail.length)
            most = low * TAIL_WASTE + TAIL_SLACK if self._uneven else low
            fits = tail.start + high <= self._pool_slots and high <= most
            if not fits or (stride and gap != stride) or self._apart(group, tail):
                break
            group.append(tail)
            shortest, longest, stride = low, high, gap
        return group

    def _apart(self, group: list[Tail], tail: Tail) -> bool:
        """A row can be in a call once; all rows of a call write one level, and grow or do not."""
        first = group[0]
        return (
            self._used[tail.row] != self._used[first.row]
            or tail.grows != first.grows
            or (not tail.grows and any(other.row == tail.row for other in group))
        )

    def _call(self, group: list[Tail]) -> TailCall:
        rows = [tail.row for tail in group]
        longest = max(tail.length for tail in group)
        level = self._used[rows[0]]
        for row in rows:
            self._used[row] = level + 1
        lengths = mask = None
        if any(tail.length != longest for tail in group):
            lengths = torch.tensor([tail.length for tail in group])
            mask = tail_mask(lengths, longest)
        return TailCall(
            first=rows[0] if rows == list(range(rows[0], rows[0] + len(rows))) else None,
            rows=torch.tensor(rows),
            start=group[0].start,
            stride=group[1].start - group[0].start if len(group) > 1 else 0,
            length=longest,
            lengths=lengths,
            mask=mask,
            level=level,
        )
