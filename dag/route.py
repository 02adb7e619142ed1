"""Improving an order step by step: the classic moves for short routes.

`apart[a][b]` is what it costs to put b behind a, the same both ways. Two kinds of moves are tried
until none helps: a run turned around (2-opt), and a short run moved elsewhere, either way around
(or-opt). Each is priced by the few borders it changes.
"""

from __future__ import annotations

from collections.abc import Sequence

Table = Sequence[Sequence[float]]
LONGEST_RUN = 3
"""Places that are moved together."""
TINY = 1e-9


def improve(order: Sequence[int], apart: Table) -> list[int]:
    """The order after moves that each make it cheaper, until none does."""
    best = list(order)
    while turn_a_run(best, apart) or move_a_run(best, apart):
        pass
    return best


def length(order: Sequence[int], apart: Table) -> float:
    """What the whole order costs, its start aside."""
    return sum(apart[a][b] for a, b in zip(order, order[1:], strict=False))


def turn_a_run(order: list[int], apart: Table) -> bool:
    """Turn around the first run for which that helps."""
    size = len(order)
    for start in range(size - 1):
        for end in range(start + 1, size):
            change = 0.0
            if start:
                before = apart[order[start - 1]]
                change += before[order[end]] - before[order[start]]
            if end + 1 < size:
                behind = apart[order[end + 1]]
                change += behind[order[start]] - behind[order[end]]
            if change < -TINY:
                order[start : end + 1] = order[start : end + 1][::-1]
                return True
    return False


def move_a_run(order: list[int], apart: Table) -> bool:
    """Move the first short run for which that helps to where it helps most."""
    size = len(order)
    for start in range(size):
        for end in range(start + 1, min(start + LONGEST_RUN, size - 1) + 1):
            run, rest = order[start:end], [*order[:start], *order[end:]]
            gain = _border(order, start, apart) + _border(order, end, apart)
            gain -= _border(rest, start, apart)
            for at in range(len(rest) + 1):
                for way in (run, run[::-1]):
                    price = -_border(rest, at, apart)
                    price += apart[rest[at - 1]][way[0]] if at else 0.0
                    price += apart[way[-1]][rest[at]] if at < len(rest) else 0.0
                    if price < gain - TINY:
                        order[:] = [*rest[:at], *way, *rest[at:]]
                        return True
    return False


def _border(order: Sequence[int], at: int, apart: Table) -> float:
    """What the border in front of place `at` costs."""
    return apart[order[at - 1]][order[at]] if 0 < at < len(order) else 0.0
