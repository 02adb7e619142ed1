"""Where boxes and lines go: a layered layout of a DAG, from top to bottom.

Boxes stand in ranks (`grid.py`), in an order in which few edges cross (`crossings.py`); columns
settle under and over their neighbours, exactly as far as the gaps allow. Plain geometry: nothing
here knows what the boxes mean. The same input gives the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .crossings import uncross
from .grid import Edge, Grid, Key, Size, mean

Point = tuple[float, float]

COLUMN_GAP = 28.0
RANK_GAP = 46.0
PORT_GAP = 16.0
BEND_WIDTH = 6.0
SETTLES = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """Top left corners of the boxes, and a route per edge: points, verticals inside a rank."""

    places: Mapping[str, Point]
    routes: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


def layered(sizes: Mapping[str, Size], edges: Iterable[Edge]) -> Layout:
    """Lay out boxes of these sizes (in the order given where nothing else decides)."""
    grid = Grid.of(sizes, edges)
    uncross(grid)
    columns = _settle(grid, sizes)
    return _place(grid, sizes, columns)


# -- columns -----------------------------------------------------------------------------------


def _settle(grid: Grid, sizes: Mapping[str, Size]) -> dict[Key, float]:
    """Centre of every key: near the mean of its neighbours, with gaps kept."""
    x: dict[Key, float] = {}
    for row in grid.rows:
        x.update(zip(row, _spread([0.0] * len(row), row, sizes), strict=True))
    both = {k: grid.above.get(k, []) + grid.below.get(k, []) for row in grid.rows for k in row}
    for near in (grid.above, grid.below) * SETTLES + (both,) * SETTLES:
        straight = _straight(grid, x) if near is both else {}
        for row in grid.rows[::-1] if near is grid.below else grid.rows:
            wanted = [straight.get(k, mean([x[n] for n in near.get(k, ())], x[k])) for k in row]
            x.update(zip(row, _spread(wanted, row, sizes), strict=True))
    return x


def _straight(grid: Grid, x: Mapping[Key, float]) -> dict[Key, float]:
    """For every bend the mean of its edge's bends: a long edge would run in one column."""
    columns: dict[Key, float] = {}
    for path in grid.paths.values():
        bends = path[1:-1]
        columns.update(dict.fromkeys(bends, mean([x[k] for k in bends], 0.0)))
    return columns


def _width(key: Key, sizes: Mapping[str, Size]) -> float:
    return sizes[key][0] if isinstance(key, str) else BEND_WIDTH


def _spread(wanted: Sequence[float], row: Sequence[Key], sizes: Mapping[str, Size]) -> list[float]:
    """The positions closest to those wanted (least squares) that keep order and gaps.

    With the gaps subtracted this is isotonic regression: neighbours that would overlap are
    pooled and share their mean.
    """
    offsets = [0.0]
    for left, right in zip(row, row[1:], strict=False):
        apart = (_width(left, sizes) + _width(right, sizes)) / 2 + COLUMN_GAP
        offsets.append(offsets[-1] + apart)
    pools: list[tuple[float, float, int]] = []  # weighted sum, weight, members
    for key, target, offset in zip(row, wanted, offsets, strict=False):
        weight = 1.0 if isinstance(key, str) else 3.0  # long edges stay straight
        pool = ((target - offset) * weight, weight, 1)
        while pools and pools[-1][0] / pools[-1][1] > pool[0] / pool[1]:
            last = pools.pop()
            pool = (last[0] + pool[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    means = [total / weight for total, weight, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


# -- the finished picture ----------------------------------------------------------------------


def _place(grid: Grid, sizes: Mapping[str, Size], x: dict[Key, float]) -> Layout:
    left = min((x[k] - _width(k, sizes) / 2 for k in x), default=0.0)
    right = max((x[k] + _width(k, sizes) / 2 for k in x), default=0.0)
    bands: list[tuple[float, float]] = []
    places: dict[str, Point] = {}
    level: dict[Key, int] = {}
    top = 0.0
    for rank, row in enumerate(grid.rows):
        height = max((sizes[k][1] for k in row if isinstance(k, str)), default=0.0)
        bands.append((top, top + height))
        for key in row:
            level[key] = rank
            if isinstance(key, str):
                width, tall = sizes[key]
                places[key] = (x[key] - left - width / 2, top + (height - tall) / 2)
        top += height + RANK_GAP
    centres = {key: at - left for key, at in x.items()}
    routes = _routes(grid, sizes, places, centres, bands, level)
    return Layout(places, routes, right - left, max(top - RANK_GAP, 0.0))


def _routes(
    grid: Grid, sizes: Mapping[str, Size], places: Mapping[str, Point], x: Mapping[Key, float],
    bands: Sequence[tuple[float, float]], level: Mapping[Key, int],
) -> dict[Edge, tuple[Point, ...]]:  # fmt: skip
    """Points of every edge, two per rank: where it enters the rank and where it leaves."""
    starts = _ports(grid, sizes, x, ends=False)
    ends = _ports(grid, sizes, x, ends=True)
    routes: dict[Edge, tuple[Point, ...]] = {}
    for (a, b), path in grid.paths.items():
        out, into = x[a] + starts[a, b], x[b] + ends[a, b]
        points = [(out, places[a][1] + sizes[a][1]), (out, bands[level[a]][1])]
        for key in path[1:-1]:
            top, bottom = bands[level[key]]
            points += [(x[key], top), (x[key], bottom)]
        points += [(into, bands[level[b]][0]), (into, places[b][1])]
        routes[a, b] = tuple(points)
    return routes


def _ports(
    grid: Grid, sizes: Mapping[str, Size], x: Mapping[Key, float], ends: bool
) -> dict[Edge, float]:
    """How far from its box's middle each edge starts (or ends), so that edges do not overlap."""
    fans: dict[str, list[tuple[float, Edge]]] = {}
    for edge, path in grid.paths.items():
        fans.setdefault(edge[ends], []).append((x[path[-2] if ends else path[1]], edge))
    ports: dict[Edge, float] = {}
    for name, fan in fans.items():
        gap = min(PORT_GAP, (sizes[name][0] - 24) / max(len(fan) - 1, 1))
        for i, (_, edge) in enumerate(sorted(fan)):
            ports[edge] = (i - (len(fan) - 1) / 2) * gap
    return ports
