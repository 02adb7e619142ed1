"""What must hold for every plan, and what no rule may change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import TYPE_CHECKING

from .arg import refs
from .demand import certain, needed
from .nodes import LLMCall, Loop, Map, Node, ToolCall, Workflow, writes
from .repeatable import work_key

if TYPE_CHECKING:
    from .logical import Part, Plan


class Malformed(Exception):
    """A plan that is not one; the message names the node."""


def verify(plan: Plan, known: Plan | None = None) -> None:
    """Raise Malformed when a node needs what does not stand before it, or an array does not fit.

    What is still the very same object in `known`, a verified plan, is not looked through again.
    """
    old = known.parts if known is not None and len(known.parts) == len(plan.parts) else ()
    for part, before in zip_longest(plan.parts, old):
        if before is None or part.workflow is not before.workflow:
            for workflow in part.workflow.bodies():
                _verify_workflow(workflow)
        same = known is not None and plan.uses is known.uses and before is not None
        same = same and part.classes is before.classes and part.workflow is before.workflow
        if part.classes is not None and not same:
            _verify_classes(part, len(plan.uses))
        if part.order is not None and sorted(part.order) != list(range(part.rows)):
            raise Malformed(f"{part.workflow.name!r}: the order does not hold every row once")


def verify_same(before: Plan, after: Plan) -> None:
    """Raise Malformed when rows, inputs, output type or side effects have changed."""
    if len(before.parts) != len(after.parts):
        raise Malformed(f"{len(before.parts)} workflows became {len(after.parts)}")
    for old, new in zip(before.parts, after.parts, strict=True):
        name = old.workflow.name
        if old.rows != new.rows:
            raise Malformed(f"{name!r}: {old.rows} rows became {new.rows}")
        if old.workflow.inputs != new.workflow.inputs:
            raise Malformed(f"{name!r}: its inputs have changed")
        if old.workflow.type is not new.workflow.type:
            raise Malformed(f"{name!r}: its output has another type")
        if old.workflow is new.workflow:
            continue
        sure, possible = _writes(old.workflow, certain), _writes(old.workflow, needed)
        now = _writes(new.workflow, needed)
        # One may go with a side that is never taken; one that every row makes may not.
        changed = (sure - now) | (now - possible)
        if changed:
            raise Malformed(f"{name!r}: the side effect of node {min(changed)!r} has changed")


def _writes(workflow: Workflow, run: Callable[[Workflow], set[str]]) -> set[str]:
    return {id for id in run(workflow) if writes(workflow.nodes[id])}


def _verify_workflow(workflow: Workflow) -> None:
    seen: set[str] = set()
    for id, node in workflow.nodes.items():
        if node.id != id:
            raise Malformed(f"node {node.id!r} stands under the name {id!r}")
        for need in node.needs():
            if need not in seen:
                where = "behind it" if need in workflow.nodes else "nowhere"
                raise Malformed(f"node {id!r} needs {need!r}, which stands {where}")
        seen.add(id)
    for need in refs(workflow.output):
        if need not in seen:
            raise Malformed(f"the output of {workflow.name!r} needs {need!r}, which is no node")


def _verify_classes(part: Part, count: int) -> None:
    assert part.classes is not None
    for id, column in part.classes.items():
        node = part.workflow.nodes.get(id)
        if node is None or not mergeable(node):
            raise Malformed(f"node {id!r} has classes and must not be merged")
        if len(column) != part.rows:
            raise Malformed(f"node {id!r} has {len(column)} classes for {part.rows} rows")
        if column and (min(column) < 0 or max(column) >= count):
            raise Malformed(f"node {id!r} has a class that does not exist")


def mergeable(node: Node) -> bool:
    """Whether two tasks of this node with equal arguments may be one."""
    return isinstance(node, LLMCall | ToolCall | Map | Loop) and work_key(node) is not None
