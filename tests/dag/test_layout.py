"""The layout: boxes never overlap, lines go down, and easy graphs come out without crossings."""

from __future__ import annotations

import time
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from plait.dag.grid import Size, ranks_of
from plait.dag.layout import COLUMN_GAP, Layout, layered

SIZE: Size = (100.0, 40.0)


def graph(edges: str) -> tuple[dict[str, Size], list[tuple[str, str]]]:
    """`ab bc` as boxes a, b, c and the edges between them."""
    pairs = [(e[0], e[1]) for e in edges.split()]
    return {name: SIZE for pair in pairs for name in pair}, pairs


def crossings(layout: Layout) -> int:
    """Pairs of straight stretches of different lines that cross between two ranks."""
    parts = [(a, b) for r in layout.routes.values() for a, b in zip(r[1::2], r[2::2], strict=False)]
    return sum(
        (a[0] - c[0]) * (b[0] - d[0]) < -1e-6
        for (a, b), (c, d) in combinations(parts, 2)
        if (a[1], b[1]) == (c[1], d[1])
    )


def test_ranks_are_longest_paths_and_inputs_stand_near_their_use() -> None:
    names, edges = graph("ab bc cd ad xd")
    assert ranks_of(list(names), edges) == {"a": 0, "b": 1, "c": 2, "d": 3, "x": 2}


def test_cycles_are_drawn_too() -> None:
    names, edges = graph("ab bc ca cd")
    ranks = ranks_of(list(names), edges)
    assert set(ranks) == set("abcd")
    assert set(layered(names, edges).places) == set("abcd")


def test_a_chain_is_straight() -> None:
    layout = layered(*graph("ab bc cd"))
    assert {x for x, _ in layout.places.values()} == {0.0}
    assert layout.width == 100.0
    assert all(len({x for x, _ in route}) == 1 for route in layout.routes.values())


def test_a_diamond_is_symmetric() -> None:
    places = layered(*graph("ab ac bd cd")).places
    assert places["a"][0] == places["d"][0] == (places["b"][0] + places["c"][0]) / 2
    assert places["b"][1] == places["c"][1]


def test_crossings_are_removed_where_they_can_be() -> None:
    for edges in ("ax by cz", "az by cx", "ra rb rc rd as bs cs ds", "ap aq bp cq dr br",
                  "ab bc cd de ae be ce"):  # fmt: skip
        assert crossings(layered(*graph(edges))) == 0, edges


@st.composite
def dags(draw: st.DrawFn) -> tuple[dict[str, Size], list[tuple[str, str]]]:
    count = draw(st.integers(1, 14))
    numbers = st.integers(40, 300).map(float)
    sizes = {f"n{i}": (draw(numbers), draw(numbers)) for i in range(count)}
    pairs = [(f"n{i}", f"n{j}") for i in range(count) for j in range(i + 1, count)]
    return sizes, draw(st.lists(st.sampled_from(pairs), max_size=30)) if pairs else []


@settings(max_examples=60, deadline=None)
@given(dags())
def test_boxes_never_overlap_and_lines_go_down(
    dag: tuple[dict[str, Size], list[tuple[str, str]]],
) -> None:
    sizes, edges = dag
    layout = layered(sizes, edges)
    boxes = [(x, y, x + sizes[n][0], y + sizes[n][1]) for n, (x, y) in layout.places.items()]
    for (al, at, ar, ab), (bl, bt, br, bb) in combinations(boxes, 2):
        apart = max(bl - ar, al - br)
        assert apart >= COLUMN_GAP - 1e-6 or bt >= ab or at >= bb
    for left, top, right, bottom in boxes:
        assert left >= -1e-6 and top >= 0
        assert right <= layout.width + 1e-6 and bottom <= layout.height + 1e-6
    for (a, b), route in layout.routes.items():
        heights = [y for _, y in route]
        assert heights == sorted(heights)
        assert heights[0] == layout.places[a][1] + sizes[a][1]
        assert heights[-1] == layout.places[b][1]
    assert layered(sizes, list(reversed(edges))) == layout


def test_a_large_graph_is_laid_out_in_seconds() -> None:
    names = {f"n{i}": SIZE for i in range(1500)}
    edges = [(f"n{i}", f"n{i + 1}") for i in range(1499)] + [("n0", f"n{i}") for i in range(1500)]
    start = time.perf_counter()
    assert len(layered(names, edges).places) == 1500
    assert time.perf_counter() - start < 5
