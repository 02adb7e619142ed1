"""What a run asks for. Nodes run on demand, and everybody who reasons about a run, before it or in
it, has to mean the same by that."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .arg import refs
from .nodes import Branch, Node, Workflow, writes


def goals(workflow: Workflow) -> tuple[str, ...]:
    """Nodes that a run must complete: what the output is made of, and writes that nothing needs.

    A write that only unused nodes need is not run, and so is not among them.
    """
    asked = {id for node in workflow.nodes.values() for id in node.needs()}
    effects = (n.id for n in workflow.nodes.values() if writes(n) and n.id not in asked)
    return tuple(dict.fromkeys((*refs(workflow.output), *effects)))


def needed_first(node: Node) -> tuple[str, ...]:
    """Nodes whose values it takes to begin: of a branch the condition alone."""
    return tuple(dict.fromkeys(refs(node.condition))) if isinstance(node, Branch) else node.needs()


def certain(workflow: Workflow) -> set[str]:
    """Nodes that run for every row: those not needed by one side of a branch alone."""
    return _behind(workflow, needed_first)


def needed(workflow: Workflow) -> set[str]:
    """Nodes that a run may come to ask for."""
    return _behind(workflow, lambda node: node.needs())


def _behind(workflow: Workflow, needs: Callable[[Node], Iterable[str]]) -> set[str]:
    """The goals and all that they need, directly or not."""
    stack = [*goals(workflow)]
    seen: set[str] = set()
    while stack:
        id = stack.pop()
        if id not in seen and id in workflow.nodes:
            seen.add(id)
            stack += needs(workflow.nodes[id])
    return seen
