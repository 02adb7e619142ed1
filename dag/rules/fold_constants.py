"""Work out before running what depends on no row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..arg import Arg, Lit, refs
from ..demand import goals
from ..errors import OutputError
from ..nodes import Branch, Const, Node, Project, Workflow
from ..rewriting import rewrite, substitute, with_args
from ..template import project

if TYPE_CHECKING:
    from ..logical import Plan


def fold_constants(plan: Plan) -> Plan:
    """Work out before running what depends on no row: parts of constants, sides of branches.

    A pure tool whose arguments are known is not run here: planning runs nothing. `merge_calls`
    makes one task of it for the whole batch.
    """
    return rewrite(plan, _fold)


def _fold(workflow: Workflow) -> Workflow:
    known: dict[str, Arg] = {}
    nodes: dict[str, Node] = {}
    for id, node in workflow.nodes.items():
        node = with_args(node, known)
        value = _value(node)
        if value is None:
            nodes[id] = node
        else:
            known[id] = value
    if all(nodes.get(id) is node for id, node in workflow.nodes.items()):
        return workflow
    folded = replace(workflow, nodes=nodes, output=substitute(workflow.output, known))
    return _without_new_goals(folded, set(goals(workflow)))


def _without_new_goals(folded: Workflow, before: set[str]) -> Workflow:
    """A write that only a branch asked for must not become one that nothing needs: those run."""
    while new := set(goals(folded)) - before - set(refs(folded.output)):
        kept = {id: node for id, node in folded.nodes.items() if id not in new}
        folded = replace(folded, nodes=kept)
    return folded


def _value(node: Node) -> Arg | None:
    """What stands for the node; None when rows have a say."""
    match node:
        case Const(value=value):
            return Lit(value)
        case Project(of=Lit(value), path=path):
            try:
                return Lit(project(value, path))
            except OutputError:
                return None  # the rows that ask for it fail, as they do without this rule
        case Branch(condition=Lit(value), then=then, otherwise=otherwise):
            return then if value else otherwise
    return None
