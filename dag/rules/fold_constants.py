"""Work out before running what depends on no row."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..arg import Arg, Lit, refs
from ..demand import goals
from ..known import Known, KnownCall, arguments_of, known_calls
from ..nodes import Branch, Const, Node, Project, ToolCall, Workflow
from ..rewriting import rewrite, substitute, with_args
from ..template import project

if TYPE_CHECKING:
    from ..logical import Plan


def fold_constants(plan: Plan) -> Plan:
    """Work out before running what depends on no row.

    Parts of constants, sides of branches, and calls of pure tools that have been made already, see
    `calls_to_make`.
    """
    used: set[Hashable] = set()
    folded = rewrite(plan, partial(_fold, made=plan.known, used=used))
    called = tuple(one for key, one in plan.known.items() if key in used)
    return replace(folded, called=called) if called else folded


def calls_to_make(plan: Plan) -> Iterator[KnownCall]:
    """Calls of pure tools that are the same for every row and whose values are not known yet.

    Rules run nothing: who can call tools makes them, and hands what comes of them to the plan.
    """
    for number, part in enumerate(fold_constants(plan).parts):
        if part.rows:
            yield from known_calls(part.workflow, number)


def _fold(workflow: Workflow, made: Known, used: set[Hashable]) -> Workflow:
    known: dict[str, Arg] = {}
    nodes: dict[str, Node] = {}
    for id, node in workflow.nodes.items():
        node = with_args(node, known)
        try:
            value = _value(node, made, used)
        except Exception:  # a value's own code: the rows that ask for it fail, as without this rule
            value = None
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


def _value(node: Node, made: Known, used: set[Hashable]) -> Arg | None:
    """What stands for the node; None when rows have a say. `used`: keys of calls, grows."""
    match node:
        case Const(value=value):
            return Lit(value)
        case Project(of=Lit(value, own), path=path):
            return Lit(project(value, path), own)
        case Branch(condition=Lit(value), then=then, otherwise=otherwise):
            return then if value else otherwise
        case ToolCall() if made:
            found = arguments_of(node)
            if found is not None and found[0] in made:
                used.add(found[0])
                return Lit(made[found[0]].value, own=True)
    return None
