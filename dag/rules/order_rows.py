"""Let rows that share long prefixes run next to each other."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

from ..numbering import Column
from ..prefixes import Group
from ..route import improve, length

if TYPE_CHECKING:
    from ..logical import Part, Plan

KEYS = 4
"""Nodes by whose prefixes rows are ordered: those behind only break ties."""
SMALL = 48
"""Rows of a batch whose order is improved row by row."""
STARTS = 4
"""Orders that are improved, of which the best is taken."""
TRIED = 200_000
"""Rows times orders that are compared; larger batches take the likeliest order unseen."""


def order_rows(plan: Plan) -> Plan:
    """Order the rows so that those with common prefixes run next to each other.

    A nested traversal of the prefix tree: rows are sorted by the prefixes of one node, from its
    first slot to its last, then by those of the next node. Which node comes first is tried out:
    the order that has to compute fewest tokens anew from row to row is taken, and in a small batch
    improved by moving and turning runs of rows. Groups come in the order of their first row, so a
    batch that shares nothing keeps its order.
    """
    if plan.prefixes is None:
        return plan
    orders = (_order(part, _groups(plan, number)) for number, part in enumerate(plan.parts))
    pairs = zip(plan.parts, orders, strict=True)
    return replace(plan, parts=tuple(replace(part, order=order) for part, order in pairs))


def _groups(plan: Plan, part: int) -> list[Group]:
    """The nodes whose rows share most, the most first; not those in bodies of maps."""
    assert plan.prefixes is not None
    rows = plan.parts[part].rows
    own = (g for g in plan.prefixes.groups if g.part == part and g.saved > 0)
    return [g for g in own if all(len(c) == rows for c in g.columns)][:KEYS]


def _order(part: Part, groups: Sequence[Group]) -> Column | None:
    as_given = range(part.rows)
    ranked = {id(group): _ranks(part.rows, group) for group in groups}
    tried = permutations(groups) if part.rows * 24 <= TRIED else [tuple(groups)]
    orders = [_sorted(as_given, [r for g in order for r in ranked[id(g)]]) for order in tried]
    starts = sorted((as_given, *orders), key=lambda order: new_tokens(groups, order))
    found: Sequence[int] = starts[0]
    if groups and part.rows <= SMALL:
        apart = [[new_tokens(groups, (a, b)) for b in as_given] for a in as_given]
        better = (improve(start, apart) for start in starts[:STARTS])
        found = min((found, *better), key=lambda order: length(order, apart))
    return None if list(found) == list(as_given) else array("i", found)


def _ranks(rows: int, group: Group) -> list[list[int]]:
    """The group's columns with numbers in the order of their first row. A column with one number,
    or with one per row, tells nothing or ends all sharing."""
    out = []
    for column in group.columns:
        ranks: dict[int, int] = {}
        ranked = [ranks.setdefault(number, len(ranks)) for number in column]
        if 1 < len(ranks) < rows:
            out.append(ranked)
    return out


def _sorted(rows: Iterable[int], keys: Sequence[Sequence[int]]) -> list[int]:
    return sorted(rows, key=list(zip(*keys, strict=True)).__getitem__) if keys else list(rows)


def new_tokens(groups: Sequence[Group], order: Sequence[int]) -> float:
    """Prompt tokens behind what each row has in common with the row before it."""
    return sum(
        tokens * sum(column[one] != column[two] for one, two in pairwise(order))
        for group in groups
        for column, tokens in zip(group.columns, group.tokens, strict=True)
    )
