"""Leave out nodes whose values nothing asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..demand import needed
from ..nodes import Input, Workflow
from ..rewriting import rewrite

if TYPE_CHECKING:
    from ..logical import Plan


def prune_unused(plan: Plan) -> Plan:
    """Leave out nodes whose values nothing asks for.

    Inputs stay: a row that lacks one is wrong whether or not its value is used.
    """
    return rewrite(plan, _prune)


def _prune(workflow: Workflow) -> Workflow:
    kept = needed(workflow)
    nodes = {id: n for id, n in workflow.nodes.items() if id in kept or isinstance(n, Input)}
    return workflow if len(nodes) == len(workflow.nodes) else replace(workflow, nodes=nodes)
