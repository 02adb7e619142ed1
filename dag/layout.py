"""Where boxes and lines go: a layered layout of a DAG, from top to bottom.

Every box gets a rank (the length of the longest path to it), long edges get a bend in every rank
they cross, each rank is ordered by barycentre sweeps that keep the order with the fewest
crossings, and columns settle under and over their neighbours, exactly as far as the gaps allow.
Plain geometry: nothing here knows what the boxes mean. The same input gives the same picture.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]
Size = tuple[float, float]
Edge = tuple[str, str]
Key = str | tuple[str, str, int]
"""A box, or the bend of an edge in one rank."""

COLUMN_GAP = 28.0
RANK_GAP = 46.0
PORT_GAP = 16.0
BEND_WIDTH = 6.0
MAX_BENDS = 20_000
SWEEPS, SETTLES = 12, 6


@dataclass(frozen=True, slots=True)
class Layout:
    """Top left corners of the boxes, and a route per edge: points, verticals inside a rank."""

    places: Mapping[str, Point]
    routes: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


def layered(sizes: Mapping[str, Size], edges: Iterable[Edge]) -> Layout:
    """Lay out boxes of these sizes (in the order given where nothing else decides)."""
    grid = _Grid.of(sizes, _in_order(sizes, edges))
    _uncross(grid)
    columns = _settle(grid, sizes)
    return _place(grid, sizes, columns)


def ranks_of(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Length of the longest path to each box; boxes without a predecessor stand right above the
    first that needs them. Edges that close a cycle are ignored."""
    below: dict[str, list[str]] = {n: [] for n in names}
    waits = dict.fromkeys(names, 0)
    for a, b in edges:
        below[a].append(b)
        waits[b] += 1
    sources = [n for n in names if not waits[n]]
    ranks: dict[str, int] = {}
    ready, left = list(reversed(sources)), dict.fromkeys(names)
    lowest = dict.fromkeys(names, 0)
    while left:
        name = ready.pop() if ready else next(iter(left))
        if name not in left:
            continue
        del left[name]
        ranks[name] = lowest[name]
        for after in below[name]:
            lowest[after] = max(lowest[after], ranks[name] + 1)
            waits[after] -= 1
            if not waits[after]:
                ready.append(after)
    for name in sources:
        ranks[name] = max(min((ranks[b] for b in below[name]), default=1) - 1, 0)
    return ranks


def _in_order(sizes: Mapping[str, Size], edges: Iterable[Edge]) -> list[Edge]:
    index = {name: i for i, name in enumerate(sizes)}
    return sorted({e for e in edges if e[0] != e[1]}, key=lambda e: (index[e[0]], index[e[1]]))


@dataclass(slots=True)
class _Grid:
    """Ranks of keys from left to right, and who is joined to whom in the ranks above and below."""

    rows: list[list[Key]]
    paths: dict[Edge, list[Key]]
    """Every edge as the keys it runs through, from top to bottom."""
    above: dict[Key, list[Key]] = field(default_factory=dict)
    below: dict[Key, list[Key]] = field(default_factory=dict)

    @classmethod
    def of(cls, sizes: Mapping[str, Size], edges: Sequence[Edge]) -> _Grid:
        ranks = ranks_of(list(sizes), edges)
        rows: list[list[Key]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
        for name in sizes:
            rows[ranks[name]].append(name)
        grid = cls(rows, {})
        bends = sum(max(ranks[b] - ranks[a] - 1, 0) for a, b in edges)
        for a, b in edges:
            between = range(ranks[a] + 1, ranks[b]) if bends <= MAX_BENDS else ()
            path: list[Key] = [a, *((a, b, rank) for rank in between), b]
            for rank, key in zip(between, path[1:-1], strict=True):
                rows[rank].append(key)
            grid.paths[a, b] = path
            for upper, lower in zip(path, path[1:], strict=False):
                grid.below.setdefault(upper, []).append(lower)
                grid.above.setdefault(lower, []).append(upper)
        return grid


# -- order within ranks ------------------------------------------------------------------------


def _uncross(grid: _Grid) -> None:
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


def _sweep(grid: _Grid, down: bool) -> None:
    rows, near = (grid.rows, grid.above) if down else (grid.rows[::-1], grid.below)
    for fixed, row in zip(rows, rows[1:], strict=False):
        spot = {key: i for i, key in enumerate(fixed)}
        here = {key: float(i) for i, key in enumerate(row)}
        wanted = {k: _mean([spot[n] for n in near.get(k, ()) if n in spot], here[k]) for k in row}
        row.sort(key=wanted.__getitem__)


def _walk(grid: _Grid) -> list[list[Key]]:
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


def _crossings(grid: _Grid) -> int:
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


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


# -- columns -----------------------------------------------------------------------------------


def _settle(grid: _Grid, sizes: Mapping[str, Size]) -> dict[Key, float]:
    """Centre of every key: near the mean of its neighbours, with gaps kept."""
    x: dict[Key, float] = {}
    for row in grid.rows:
        x.update(zip(row, _spread([0.0] * len(row), row, sizes), strict=True))
    both = {k: grid.above.get(k, []) + grid.below.get(k, []) for row in grid.rows for k in row}
    for near in (grid.above, grid.below) * SETTLES + (both,) * SETTLES:
        straight = _straight(grid, x) if near is both else {}
        for row in grid.rows[::-1] if near is grid.below else grid.rows:
            wanted = [straight.get(k, _mean([x[n] for n in near.get(k, ())], x[k])) for k in row]
            x.update(zip(row, _spread(wanted, row, sizes), strict=True))
    return x


def _straight(grid: _Grid, x: Mapping[Key, float]) -> dict[Key, float]:
    """For every bend the mean of its edge's bends: a long edge would run in one column."""
    columns: dict[Key, float] = {}
    for path in grid.paths.values():
        bends = path[1:-1]
        columns.update(dict.fromkeys(bends, _mean([x[k] for k in bends], 0.0)))
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


def _place(grid: _Grid, sizes: Mapping[str, Size], x: dict[Key, float]) -> Layout:
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
    grid: _Grid, sizes: Mapping[str, Size], places: Mapping[str, Point], x: Mapping[Key, float],
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
    grid: _Grid, sizes: Mapping[str, Size], x: Mapping[Key, float], ends: bool
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
