"""Find tool calls that can be made before their turn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..demand import certain
from ..nodes import Agent, Const, Input, Node, Project, ToolCall, Workflow

if TYPE_CHECKING:
    from ..logical import Part, Plan


def hoist_tools(plan: Plan) -> Plan:
    """Call tools before their turn when all they are given are columns of the row, or what such
    tools return.

    Tools that write never. Those that read only where no tool of the plan writes and every row
    asks for them. Pure ones also where a branch decides whether they are asked for, if they turn
    out to be cheap.
    """
    reads = not plan.live and not any(
        _writes(node) for part in plan.parts for node in _nodes(part.workflow)
    )
    return replace(plan, parts=tuple(_hoist(part, reads) for part in plan.parts))


def _hoist(part: Part, reads: bool) -> Part:
    workflow = part.workflow
    if workflow.live:
        return part
    always, known = certain(workflow), set[str]()
    nodes: dict[str, Node] = {}
    for id, node in workflow.nodes.items():
        given = all(need in known for need in node.needs())
        if isinstance(node, Input | Const) or (isinstance(node, Project) and given):
            known.add(id)
        if isinstance(node, ToolCall) and given:
            pure = node.tool.effect == "pure"
            if pure or (node.tool.effect == "read" and reads and id in always):
                node = replace(node, ahead=True)
                known.add(id)
        nodes[id] = node
    if all(nodes[id] is node for id, node in workflow.nodes.items()):
        return part
    return replace(part, workflow=replace(workflow, nodes=nodes))


def _nodes(workflow: Workflow) -> list[Node]:
    return [node for body in workflow.bodies() for node in body.nodes.values()]


def _writes(node: Node) -> bool:
    if isinstance(node, ToolCall):
        return node.tool.effect == "write"
    return isinstance(node, Agent) and any(tool.effect == "write" for tool in node.tools)
