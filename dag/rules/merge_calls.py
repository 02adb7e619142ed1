"""Find tasks that do the same work, across nodes, rows and workflows."""

from __future__ import annotations

from array import array
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING

from ..logical import with_numbers
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
    # A task's class is the number of its value; a number that is no task's has no uses.
    uses = array("i", repeat(0, plan.numbering.fresh()))
    parts = []
    for part in plan.parts:
        assert part.numbered is not None
        columns = part.numbered.columns
        mine = [n.id for n in part.workflow.nodes.values() if mergeable(n) and n.id in columns]
        classes = {id: columns[id] for id in mine}
        for column in classes.values():
            for number in column:
                uses[number] += 1
        parts.append(replace(part, classes=classes))
    return replace(plan, parts=tuple(parts), uses=uses)
