"""Rewriting workflows: the same change to every workflow of a plan and to every body in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .arg import Arg, Fill, Rec, Ref, Seq
from .nodes import Agent, Branch, LLMCall, Loop, Map, Node, Project, ToolCall, Workflow

if TYPE_CHECKING:
    from .logical import Plan

Change = Callable[[Workflow], Workflow]


def rewrite(plan: Plan, change: Change) -> Plan:
    """The plan with every workflow changed, bodies first. The same plan when nothing is."""
    parts = tuple(replace(p, workflow=_deep(p.workflow, change)) for p in plan.parts)
    return plan if parts == plan.parts else replace(plan, parts=parts)


def _deep(workflow: Workflow, change: Change) -> Workflow:
    if workflow.live:
        return workflow
    nodes = {id: _with_bodies(node, change) for id, node in workflow.nodes.items()}
    if any(nodes[id] is not node for id, node in workflow.nodes.items()):
        workflow = replace(workflow, nodes=nodes)
    return change(workflow)


def _with_bodies(node: Node, change: Change) -> Node:
    if isinstance(node, Map):
        body = _deep(node.body, change)
        return node if body is node.body else replace(node, body=body)
    if isinstance(node, Loop):
        body = _deep(node.body, change)
        until = _deep(node.until, change) if node.until is not None else None
        same = body is node.body and until is node.until
        return node if same else replace(node, body=body, until=until)
    return node


def substitute(arg: Arg, values: Mapping[str, Arg]) -> Arg:
    """An argument with references replaced; the same object when none is."""
    match arg:
        case Ref(id):
            return values.get(id, arg)
        case Seq(items, kind):
            fresh = tuple(substitute(item, values) for item in items)
            return arg if _same(fresh, items) else Seq(fresh, kind)
        case Rec(pairs):
            parts = tuple((key, substitute(item, values)) for key, item in pairs)
            return arg if _same((a for _, a in parts), (a for _, a in pairs)) else Rec(parts)
        case Fill(text, bound):
            filled = tuple((name, substitute(item, values)) for name, item in bound)
            same = _same((a for _, a in filled), (a for _, a in bound))
            return arg if same else Fill(text, filled)
    return arg


def with_args(node: Node, values: Mapping[str, Arg]) -> Node:
    """A node with references in its arguments replaced."""
    old = node.args()
    new = {name: substitute(arg, values) for name, arg in old}
    same = _same(new.values(), (arg for _, arg in old))
    return node if same else replace_args(node, new)


def replace_args(node: Node, given: Mapping[str, Arg]) -> Node:
    """A node with some of its arguments replaced, by name."""
    new = {**dict(node.args()), **given}
    match node:
        case Project():
            return replace(node, of=new["of"])
        case LLMCall() | ToolCall() | Agent():
            return replace(node, bound=tuple(new.items()))
        case Map():
            bound = tuple((name, new[name]) for name, _ in node.bound)
            return replace(node, over=new["over"], bound=bound)
        case Branch():
            condition, then, otherwise = new["condition"], new["then"], new["otherwise"]
            return replace(node, condition=condition, then=then, otherwise=otherwise)
        case Loop():
            return replace(node, state=new["state"])
    raise AssertionError(f"{node.operator} has arguments that cannot be replaced")


def _same(new: object, old: object) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))  # type: ignore[call-overload]
