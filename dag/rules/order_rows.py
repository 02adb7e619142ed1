"""Let rows that share long prefixes run next to each other."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

from ..numbers import Column
from ..ordering import Footprints, new_tokens, search
from ..prefixes import Group
from ..route import improve

if TYPE_CHECKING:
    from ..logical import Part, Plan

KEYS = 4
"""Nodes by whose prefixes rows are ordered: those behind only break ties."""
SMALL = 48
"""Rows of a batch whose order is improved row by row."""
STARTS = 4
"""Orders that are improved, of which the best is taken."""
SEARCHED = 3_000
"""Rows times orders that a small batch is gone through in search of a better order."""
PRICED = 16_000
"""Rows times prefixes of a row times orders that are priced in a larger batch."""
TRIED = 100_000
"""Rows times orders that are compared; larger batches take the likeliest order unseen."""


def order_rows(plan: Plan) -> Plan:
    """Order the rows so that those with common prefixes run next to each other.

    A nested traversal of the prefix tree: rows are sorted by the prefixes of one node, from its
    first slot to its last, then by those of the next node. Which node comes first is tried out: of
    those that have to compute fewest tokens anew from row to row, the order is taken that computes
    fewest with the KV memory there is, or as many, but fewer where rows overlap. In a small batch
    it is improved by moving and turning runs of rows, as long as that computes fewer. Groups come
    in the order of their first row, so a batch that shares nothing keeps its order.
    """
    if plan.prefixes is None:
        return plan
    orders = (
        _order(part, _groups(plan, number), plan.memory) for number, part in enumerate(plan.parts)
    )
    pairs = zip(plan.parts, orders, strict=True)
    return replace(plan, parts=tuple(replace(part, order=order) for part, order in pairs))


def _groups(plan: Plan, part: int) -> list[Group]:
    """The nodes whose rows share most, the most first; not those in bodies of maps."""
    assert plan.prefixes is not None
    rows, nodes = plan.parts[part].rows, plan.parts[part].workflow.nodes
    own = (g for g in plan.prefixes.groups if g.part == part and g.saved > 0 and g.node in nodes)
    return [g for g in own if all(len(c) == rows for c in g.columns)][:KEYS]


def _order(part: Part, groups: Sequence[Group], memory: float | None) -> Column | None:
    as_given = range(part.rows)
    if not groups or part.rows < 3:
        return None
    ranked = {id(group): _ranks(part.rows, group) for group in groups}
    tried = permutations(groups) if part.rows * 24 <= TRIED else [tuple(groups)]
    # Many nodes show the same columns: what sorts alike is tried once.
    keys = dict.fromkeys(
        tuple(dict.fromkeys(r for g in way for r in ranked[id(g)])) for way in tried
    )
    orders = [_sorted(as_given, key) for key in keys]
    starts = sorted((as_given, *orders), key=lambda order: new_tokens(groups, order))
    found: Sequence[int]
    if part.rows <= SMALL:
        found = _searched(part, groups, starts[:STARTS], memory)
    else:
        each = part.rows * sum(len(group.columns) for group in groups)
        found = _cheapest(part, groups, starts[: max(1, PRICED // each)], memory)
    return None if list(found) == list(as_given) else array("i", found)


def _footprints(part: Part, groups: Sequence[Group], memory: float | None) -> Footprints:
    ids = list(part.workflow.nodes)
    as_called = sorted(groups, key=lambda group: ids.index(group.node))
    return Footprints(as_called, part.rows, memory, part.classes)


def _cheapest(
    part: Part, groups: Sequence[Group], orders: Sequence[Sequence[int]], memory: float | None
) -> Sequence[int]:
    """Of these orders the one that computes least; of several that which overlaps best, of those
    the first."""
    if len(orders) == 1:
        return orders[0]
    footprints = _footprints(part, groups, memory)
    if footprints.ample:
        return orders[0]
    computed = [footprints.computed(order) for order in orders]
    least = min(computed)
    best = [order for order, tokens in zip(orders, computed, strict=True) if tokens == least]
    return min(best, key=footprints.overlapped) if len(best) > 1 else best[0]


def _searched(
    part: Part, groups: Sequence[Group], starts: Sequence[Sequence[int]], memory: float | None
) -> Sequence[int]:
    """The best order found from these; the first of them when none is better."""
    footprints = _footprints(part, groups, memory)
    if footprints.ample:
        return starts[0]
    apart = footprints.apart()
    routes = [improve(start, apart) for start in starts]
    tries = min(SEARCHED // part.rows, part.rows**3)
    return search([*starts, *routes], footprints.price, tries)


def _ranks(rows: int, group: Group) -> list[bytes]:
    """The group's columns with numbers in the order of their first row. A column with one number,
    or with one per row, tells nothing or ends all sharing."""
    out = []
    for column in group.columns:
        ranks = {number: rank for rank, number in enumerate(dict.fromkeys(column))}
        if 1 < len(ranks) < rows:
            out.append(array("i", map(ranks.__getitem__, column)).tobytes())
    return out


def _sorted(rows: Iterable[int], keys: Sequence[bytes]) -> list[int]:
    columns = [memoryview(key).cast("i") for key in keys]
    return sorted(rows, key=list(zip(*columns, strict=True)).__getitem__) if keys else list(rows)
