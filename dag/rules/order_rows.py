"""Let rows that share long prefixes run next to each other."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from ..numbering import Column

if TYPE_CHECKING:
    from ..logical import Part, Plan

KEYS = 4
"""Nodes by whose prefixes rows are ordered: those behind only break ties."""


def order_rows(plan: Plan) -> Plan:
    """Order the rows so that those with common prefixes run next to each other.

    A nested traversal of the prefix tree: rows are sorted by the prefixes of the node that saves
    most tokens, from its first slot to its last, then by those of the next node. Groups come in the
    order of their first row, so a batch that shares nothing keeps its order.
    """
    if plan.prefixes is None:
        return plan
    keys = [_keys(plan, number) for number in range(len(plan.parts))]
    parts = tuple(replace(p, order=_order(p, k)) for p, k in zip(plan.parts, keys, strict=True))
    return replace(plan, parts=parts)


def _keys(plan: Plan, part: int) -> list[Column]:
    assert plan.prefixes is not None
    rows = plan.parts[part].rows
    groups = [
        g
        for g in plan.prefixes.groups
        if g.part == part and g.saved > 0 and all(len(c) == rows for c in g.columns)
    ]
    return [column for group in groups[:KEYS] for column in group.columns]


def _order(part: Part, keys: list[Column]) -> Column | None:
    # A column with one number, or with one per row, tells nothing or ends all sharing.
    useful: list[list[int]] = []
    for column in keys:
        ranks: dict[int, int] = {}
        ranked = [ranks.setdefault(number, len(ranks)) for number in column]
        if 1 < len(ranks) < part.rows and ranked not in useful:
            useful.append(ranked)
    if not useful:
        return None
    places = sorted(range(part.rows), key=list(zip(*useful, strict=True)).__getitem__)
    return None if places == list(range(part.rows)) else array("i", places)
