"""Boxes in ranks, and the edges between neighbouring ranks, before anything has a place.

Every box gets a rank (the length of the longest path to it), and long edges get a bend in every
rank that they cross.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Size = tuple[float, float]
Edge = tuple[str, str]
Key = str | tuple[str, str, int]
"""A box, or the bend of an edge in one rank."""

MAX_BENDS = 20_000
"""More than that, and long edges go straight."""


@dataclass(slots=True)
class Grid:
    """Ranks of keys from left to right, and who is joined to whom in the ranks above and below."""

    rows: list[list[Key]]
    paths: dict[Edge, list[Key]]
    """Every edge as the keys it runs through, from top to bottom."""
    above: dict[Key, list[Key]] = field(default_factory=dict)
    below: dict[Key, list[Key]] = field(default_factory=dict)

    @classmethod
    def of(cls, sizes: Mapping[str, Size], edges: Iterable[Edge]) -> Grid:
        edges = _in_order(sizes, edges)
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


def mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
