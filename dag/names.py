"""The name under which a run counts a node: its id, behind those of the bodies that it is in.

map_inside/lookup        in the body of a map or loop, all items and rounds together
loop_draft/until/good    in the condition of a loop
draft                    also where a lone operator is the whole body, as in loop_draft
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .nodes import Loop, Map, Node, Workflow


def counted_name(way: Sequence[str], id: str) -> str:
    """The name of a node under the ids of the nodes whose bodies it is in."""
    bodies = way[:-1] if way and way[-1] == id else way
    return "/".join((*bodies, id))


def named_nodes(workflow: Workflow, way: tuple[str, ...] = ()) -> Iterator[tuple[str, Node]]:
    """Every node of a workflow and of the bodies in it, each with its name."""
    for node in workflow.nodes.values():
        yield counted_name(way, node.id), node
        if isinstance(node, Map | Loop):
            yield from named_nodes(node.body, (*way, node.id))
        if isinstance(node, Loop) and node.until is not None:
            yield from named_nodes(node.until, (*way, node.id, "until"))
