"""Checking arguments: missing, unknown, or of a type that cannot be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .arg import Arg, Ref
from .edges import loop_misfits, misfit, misfit_item, missing_part, type_of
from .errors import Problem
from .nodes import LLMCall, Loop, Map, Node, Project, ToolCall, Workflow
from .source import problem_at
from .template import Path, Template, path_text
from .types import field_type


def arguments(workflow: Workflow) -> Iterator[Problem]:
    """Arguments that are missing, unknown, or of a type that cannot be right."""
    for node in workflow.nodes.values():
        match node:
            case ToolCall():
                yield from _tool_arguments(node, workflow)
            case Map():
                yield from _map_arguments(node, workflow)
            case Loop():
                yield from _loop_arguments(node, workflow)
            case Project():
                yield from _parts(node.of, node.path, node, workflow)
            case LLMCall():
                yield from _slots(node, workflow)


def _tool_arguments(node: ToolCall, workflow: Workflow) -> Iterator[Problem]:
    tool, bound = node.tool, dict(node.bound)
    signature = getattr(tool.run, "signature", None)  # of the decorated function, if it is one
    known = tool.parameters.get("properties", {})
    for name in signature.required if signature else tool.parameters.get("required", ()):
        if name not in bound:
            message = f"{tool.name!r} misses argument {name!r}"
            yield at_node(node, message, f"give {name}=...", tool.name)
    for name, arg in node.bound:
        if known and name not in known:
            hint = f"its arguments are {', '.join(known)}"
            yield at_node(node, f"{tool.name!r} has no argument {name!r}", hint, tool.name)
        kind = signature.types.get(name, Any) if signature else schema_type(known.get(name))
        wrong = misfit(tool.name, name, arg, kind, workflow.nodes, node.source)
        if wrong:
            yield wrong


def schema_type(schema: Any) -> Any:
    """The Python type of a JSON schema's values; Any where one word does not say it."""
    names = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list,
             "object": dict}  # fmt: skip
    word = schema.get("type") if isinstance(schema, dict) else None
    return names.get(word, Any) if isinstance(word, str) else Any


def _map_arguments(node: Map, workflow: Workflow) -> Iterator[Problem]:
    body, bound = node.body, dict(node.bound)
    inputs = {i.id: i for i in body.inputs}
    for name in (node.item, *bound):
        if name not in inputs:
            yield at_node(
                node, f"{body.name!r} has no input {name!r}", f"it has {', '.join(inputs)}"
            )
    for i in body.inputs:
        if i.id != node.item and i.id not in bound and i.default is ...:
            yield at_node(node, f"map over {body.name!r} misses input {i.id!r}", f"give {i.id}=...")
    nodes, source = workflow.nodes, node.source
    kinds = {name: i.type for name, i in inputs.items()}
    found = [misfit(body.name, n, a, kinds.get(n, Any), nodes, source) for n, a in node.bound]
    kind = kinds.get(node.item, Any)
    found.append(misfit_item(body.name, node.item, node.over, kind, nodes, source))
    yield from (p for p in found if p)


def _loop_arguments(node: Loop, workflow: Workflow) -> Iterator[Problem]:
    ready = True
    for body in (node.body, node.until):
        if body is not None and (not body.inputs or sum(i.default is ... for i in body.inputs) > 1):
            message = f"{body.name!r} must take one argument, the state, to be used in a loop"
            ready = False
            yield at_node(node, message, "give it one input that holds all of the state")
    if ready:
        yield from loop_misfits(node.body, node.until, node.state, workflow.nodes, node.source)


def _slots(node: LLMCall, workflow: Workflow) -> Iterator[Problem]:
    bound = dict(node.bound)
    for slot in node.prompt.slots() if isinstance(node.prompt, Template) else ():
        if slot.path and slot.name in bound:
            yield from _parts(bound[slot.name], slot.path, node, workflow)


def _parts(of: Arg, path: Path, node: Node, workflow: Workflow) -> Iterator[Problem]:
    """A path that leads nowhere in values of the type it starts from."""
    kind = type_of(of, workflow.nodes)
    name = of.id if isinstance(of, Ref) else "the value"
    for i, step in enumerate(path):
        wrong = missing_part(name + path_text(path[:i]), kind, step, node.source)
        if wrong:
            yield wrong
            return
        kind = field_type(kind, step)


def at_node(node: Node, message: str, hint: str, name: str | None = None) -> Problem:
    """A problem where a node stands in the source."""
    return problem_at(node.source, message, hint, name or node.id)
