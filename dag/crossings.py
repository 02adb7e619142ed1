"""The order of boxes within ranks: barycentre sweeps, of which the order with the fewest crossings
is kept.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from .grid import Grid, Key, mean

SWEEPS = 12


def uncross(grid: Grid) -> None:
    """Order every rank by the mean position of its neighbours, and keep the best order seen. The
    sweeps begin once with the order given and once with the order of a walk along the edges."""
    best, fewest = [list(row) for row in grid.rows], _crossings(grid)
    for start in (best, _walk(grid)):
        grid.rows = [list(row) for row in start]
        for sweep in range(SWEEPS):
            count = _crossings(grid)
            if count < fewest:
                best, fewest = [list(row) for row in grid.rows], count
            if not fewest:
                break
            _sweep(grid, down=sweep % 2 == 0)
    grid.rows = best


def _sweep(grid: Grid, down: bool) -> None:
    rows, near = (grid.rows, grid.above) if down else (grid.rows[::-1], grid.below)
    for fixed, row in zip(rows, rows[1:], strict=False):
        spot = {key: i for i, key in enumerate(fixed)}
        here = {key: float(i) for i, key in enumerate(row)}
        wanted = {k: mean([spot[n] for n in near.get(k, ()) if n in spot], here[k]) for k in row}
        row.sort(key=wanted.__getitem__)


def _walk(grid: Grid) -> list[list[Key]]:
    """Every rank in the order of a walk along the edges, beginning at the loosest ends."""
    near = {k: grid.above.get(k, []) + grid.below.get(k, []) for row in grid.rows for k in row}
    met: dict[Key, int] = {}
    for start in sorted(near, key=lambda key: len(near[key])):
        stack = [start]
        while stack:
            key = stack.pop()
            if key not in met:
                met[key] = len(met)
                stack += reversed(near[key])
    return [sorted(row, key=met.__getitem__) for row in grid.rows]


def _crossings(grid: Grid) -> int:
    total = 0
    for upper, lower in zip(grid.rows, grid.rows[1:], strict=False):
        spot = {key: i for i, key in enumerate(lower)}
        seen: list[int] = []
        for key in upper:
            ends = sorted(spot[n] for n in grid.below.get(key, ()) if n in spot)
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total
