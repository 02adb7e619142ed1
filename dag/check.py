"""Checking a workflow: everything wrong with it, at once, before a row runs.

A check reports only what is certain: a false alarm would stop a workflow that works, while what
is missed here still becomes a typed error of the row it happens in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from .arg import Arg, literals, refs
from .arguments import arguments, at_node
from .edges import type_of
from .errors import Problem, WorkflowError, in_order, list_names, meant, nearest
from .jsonable import cannot_be_json, value_cannot_be_json
from .live import used_operators
from .nodes import Const, Input, LLMCall, Project, Workflow, writes
from .source import problem_at
from .template import Template
from .trace import Missing
from .types import fits, type_name
from .workflow import draft

Check = Callable[[Workflow], Iterator[Problem]]


def check(
    workflow: Workflow, *, models: Collection[str] | None = None, unused: bool = True
) -> tuple[Problem, ...]:
    """All problems of a workflow of any origin, bodies of maps and loops included, in the order
    of the source. `models` are the known aliases; without it every alias is accepted. Nodes that
    are computed in vain are reported unless `unused` is False: such a workflow can still run."""
    found: list[Problem] = []
    bodies = {id(body): body for body in workflow.bodies()}
    for body in bodies.values():
        for look in BODY_CHECKS:
            found += look(body)
        if unused:
            found += _unused(body)
        if models is not None:
            found += _models(body, models)
    found += [*_inputs(workflow), *_output(workflow)]
    return in_order(found)


def problems_of(target: Any, models: Collection[str] | None = None) -> tuple[Problem, ...]:
    """Compile whatever is given (a decorated workflow, a compiled one, an operator) and return all
    problems of compiling and checking it instead of raising."""
    found: list[Problem] = []
    queue, seen = [target], set[int]()
    for target in queue:  # a live program adds what its code names
        if id(target) in seen:
            continue
        seen.add(id(target))
        try:
            drafted = draft(target)
        except WorkflowError as error:
            found += error.problems
            continue
        found += [*drafted.problems, *check(drafted.workflow, models=models)]
        if drafted.workflow.body is not None:
            queue += used_operators(drafted.workflow.body)
    return in_order(found)


# -- references --------------------------------------------------------------------------------


_DEFINE = "define a node of this name"


def _references(workflow: Workflow) -> Iterator[Problem]:
    """Names that stand for nothing."""
    nodes = workflow.nodes
    for key, node in nodes.items():
        if key != node.id:
            yield at_node(node, f"node {node.id!r} is filed under the name {key!r}", "use its id")
        for name, arg in node.args():
            for id in _unknown(workflow, arg):
                message = f"{node.id!r} takes {name!r} from {id!r}, which does not exist"
                yield at_node(node, message, nearest(id, nodes) or _DEFINE)
        if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
            bound = dict(node.bound)
            for name in dict.fromkeys(s.name for s in node.prompt.slots() if s.name not in bound):
                message = f"the prompt of {node.id!r} has the slot {name!r}, which nothing fills"
                yield at_node(node, message, nearest(name, bound) or "bind it to a value")
    for id in _unknown(workflow, workflow.output):
        message = f"the output of {workflow.name!r} is {id!r}, which does not exist"
        yield problem_at(workflow.source, message, nearest(id, nodes) or _DEFINE)


def _unknown(workflow: Workflow, arg: Arg) -> list[str]:
    return [id for id in dict.fromkeys(refs(arg)) if id not in workflow.nodes]


def _order(workflow: Workflow) -> Iterator[Problem]:
    """Cycles, one per knot of nodes; without any, nodes that stand before what they need."""
    place = {id: i for i, id in enumerate(workflow.nodes)}
    early = [
        (node, id)
        for node in workflow.nodes.values()
        for id in node.needs()
        if place.get(id, -1) >= place[node.id]
    ]
    if not early:
        return  # nodes in topological order: no cycle, and no need for the graph
    import networkx

    graph = workflow.graph
    knots = [k for k in networkx.strongly_connected_components(graph) if len(k) > 1]
    loops = [[(id, id)] for id in networkx.nodes_with_selfloops(graph)]
    cycles = loops + [list(networkx.find_cycle(graph.subgraph(knot))) for knot in knots]
    for cycle in cycles:
        names = [a for a, _ in cycle]
        first = names.index(min(names, key=place.__getitem__))
        path = [*names[first:], *names[:first], names[first]]
        message = f"nodes need each other in a cycle: {' -> '.join(path)}"
        hint = "use plait.loop to repeat a step"
        yield at_node(workflow.nodes[path[0]], message, hint)
    if not cycles:
        for node, id in early:
            yield at_node(node, f"{node.id!r} stands before {id!r}, which it needs", "reorder them")


def _unused(workflow: Workflow) -> Iterator[Problem]:
    """Work whose value reaches no output."""
    nodes = workflow.nodes
    needed = {id for node in nodes.values() for id in node.needs()}
    stack = [*refs(workflow.output), *(n.id for n in nodes.values() if writes(n))]
    used: set[str] = set()
    while stack:
        id = stack.pop()
        if id not in nodes:
            id = meant(id, nodes) or id  # a name spelled wrong still means its node
        if id in nodes and id not in used:
            used.add(id)
            stack += nodes[id].needs()
    silent = Input | Const | Project | Missing
    for node in nodes.values():
        # Only the last node of an unused chain is named: using it uses the others.
        if node.id not in used | needed and not isinstance(node, silent):
            hint = "return it, pass it on, or delete the call"
            yield at_node(node, f"{node.id!r} is computed but its value is never used", hint)


# -- values ------------------------------------------------------------------------------------

_HINT = "a pydantic model, a dataclass, or plain lists, dicts, texts and numbers"


def _answers(workflow: Workflow) -> Iterator[Problem]:
    """Calls of a model declared to return what no text can be read as."""
    for node in workflow.nodes.values():
        reason = cannot_be_json(node.type) if isinstance(node, LLMCall) else None
        if reason:
            message = f"{node.id!r} returns what a model cannot write: {reason}"
            yield at_node(node, message, f"use {_HINT}")


def _inputs(workflow: Workflow) -> Iterator[Problem]:
    """Inputs of types that no column of a row can be read as."""
    for node in workflow.inputs:
        reason = cannot_be_json(node.type)
        if reason:
            message = f"input {node.id!r} of {workflow.name!r} cannot be read from a row: {reason}"
            yield at_node(node, message, f"take {_HINT}")


# -- the whole ---------------------------------------------------------------------------------

BODY_CHECKS: tuple[Check, ...] = (_references, _order, arguments, _answers)


def _output(workflow: Workflow) -> Iterator[Problem]:
    """The output is of its declared type, and it can be written as JSON."""
    given = type_of(workflow.output, workflow.nodes)
    if not workflow.live and not fits(given, workflow.type):
        message = f"{workflow.name!r} is declared to return {type_name(workflow.type)} but returns"
        hint = "change the annotation or what is returned"
        yield problem_at(workflow.source, f"{message} {type_name(given)}", hint)
    reason = cannot_be_json(workflow.type) or cannot_be_json(given)
    values = (value_cannot_be_json(value) for value in literals(workflow.output))
    reason = reason or next((found for found in values if found), None)
    if reason:
        message = f"the output of {workflow.name!r} cannot be written as JSON: {reason}"
        yield problem_at(workflow.source, message, f"return {_HINT}")


def _models(workflow: Workflow, models: Collection[str]) -> Iterator[Problem]:
    calls = [n for n in workflow.nodes.values() if isinstance(n, LLMCall)]
    for node in {(n.model, n.name): n for n in reversed(calls)}.values():  # first call of each
        if node.model not in models:
            known = f"known: {list_names(sorted(models))}" if models else "no model is known"
            yield at_node(node, f"{node.id!r} asks for the unknown model {node.model!r}", known)
