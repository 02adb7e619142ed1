"""Find tasks that do the same work, across nodes, rows and workflows."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from ..logical import with_numbers
from ..numbering import Column
from ..verify import mergeable

if TYPE_CHECKING:
    from ..logical import Plan


def merge_calls(plan: Plan) -> Plan:
    """Give one class to all tasks that do the same work: one of them runs, the others wait for it.

    Same operator, model, settings and arguments; only work whose value depends on nothing else
    (see `repeatable`), so never a tool that writes, and never a draw without a seed.
    """
    plan = with_numbers(plan)
    assert plan.numbering is not None
    dense = array("i", [-1]) * len(plan.numbering)
    uses = array("i")
    parts = []
    for part in plan.parts:
        assert part.numbered is not None
        columns = part.numbered.columns
        mine = [n.id for n in part.workflow.nodes.values() if mergeable(n) and n.id in columns]
        parts.append(replace(part, classes={id: _classes(columns[id], dense, uses) for id in mine}))
    return replace(plan, parts=tuple(parts), uses=uses)


def _classes(column: Column, dense: Column, uses: Column) -> Column:
    """Numbers of values as classes, which count from 0 and know how many tasks they have."""
    out = array("i")
    for number in column:
        found = dense[number]
        if found < 0:
            found = dense[number] = len(uses)
            uses.append(0)
        uses[found] += 1
        out.append(found)
    return out
