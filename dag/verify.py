"""What must hold for every plan, and what no rule may change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import TYPE_CHECKING

from .arg import refs
from .demand import certain, needed
from .names import counted_name
from .nodes import LLMCall, Loop, Map, Node, ToolCall, Workflow, writes
from .repeatable import work_key

if TYPE_CHECKING:
    from .logical import Part, Plan
    from .numbering import Numbered

Way = tuple[str, ...]
"""Ids of the nodes whose bodies something is in."""


class Malformed(Exception):
    """A plan that is not one; the message names the node, behind the bodies that it is in."""


def verify(plan: Plan, known: Plan | None = None) -> None:
    """Raise Malformed when a node needs what does not stand before it, or an array does not fit.

    What is still the very same object in `known`, a verified plan, is not looked through again.
    """
    old = known.parts if known is not None and len(known.parts) == len(plan.parts) else ()
    for part, before in zip_longest(plan.parts, old):
        if before is None or part.workflow is not before.workflow:
            _verify_workflow(part.workflow)
        if part.numbered is not None and (before is None or part.numbered is not before.numbered):
            _verify_numbers(part.numbered, part.rows)
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


def _verify_workflow(workflow: Workflow, way: Way = ()) -> None:
    """The nodes of a workflow and of the bodies in it."""
    seen: set[str] = set()
    for id, node in workflow.nodes.items():
        name = counted_name(way, id)
        if node.id != id:
            raise Malformed(f"node {node.id!r} stands under the name {name!r}")
        for need in node.needs():
            if need not in seen:
                where = "behind it" if need in workflow.nodes else "nowhere"
                raise Malformed(f"node {name!r} needs {need!r}, which stands {where}")
        seen.add(id)
        if isinstance(node, Map | Loop):
            _verify_inputs(node, name)
            _verify_workflow(node.body, (*way, id))
        if isinstance(node, Loop) and node.until is not None:
            _verify_workflow(node.until, (*way, id, "until"))
    for need in refs(workflow.output):
        if need not in seen:
            whose = f"the body of node {'/'.join(way)!r}" if way else repr(workflow.name)
            raise Malformed(f"the output of {whose} needs {need!r}, which is no node")


def _verify_inputs(node: Map | Loop, name: str) -> None:
    """What a body takes is what its node gives it."""
    if isinstance(node, Loop):
        for body in (node.body, node.until):
            if body is not None and not body.inputs:
                raise Malformed(f"node {name!r} has a body without an input for its state")
        return
    if node.item not in (i.id for i in node.body.inputs):
        raise Malformed(f"node {name!r} gives items to {node.item!r}, no input of its body")
    given = {node.item, *(bound for bound, _ in node.bound)}
    for i in node.body.inputs:
        if i.default is ... and i.id not in given:
            raise Malformed(f"node {name!r} gives nothing to {i.id!r}, an input of its body")


def _verify_numbers(numbered: Numbered, rows: int, way: Way = ()) -> None:
    """Every node has a number for every row; in the body of a map, for every item."""
    for id, column in numbered.columns.items():
        if len(column) != rows:
            what = f"{len(column)} numbers for {rows} {'items' if way else 'rows'}"
            raise Malformed(f"node {counted_name(way, id)!r} has {what}")
    for id, body in numbered.bodies.items():
        _verify_numbers(body, body.rows, (*way, id))


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
