"""Find out what prompts begin with in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..growing import Grower
from ..logical import with_numbers
from ..nodes import LLMCall, Loop, Map, Workflow
from ..numbering import Numbered
from ..template import Template

if TYPE_CHECKING:
    from ..logical import Plan


def share_prefixes(plan: Plan) -> Plan:
    """Build the prefix tree of all prompt templates, with the values of all rows counted in it.

    It says how many prefill tokens are asked for and how many are left, and which nodes let rows
    share what their prompts begin with.
    """
    plan = with_numbers(plan)
    assert plan.numbering is not None
    merging = all(part.classes is not None for part in plan.parts)
    grower = Grower(plan.numbering, plan.measure, merging)
    unknown = 0
    for number, part in enumerate(plan.parts):
        assert part.numbered is not None
        unknown += _unknown(part.workflow, part.numbered)
        if not part.workflow.live:
            grower.add(part.workflow, part.numbered, number)
    return replace(plan, prefixes=grower.grown(unknown))


def _unknown(workflow: Workflow, numbered: Numbered | None) -> int:
    """LLM nodes that are not in the tree: prompts made at run time, bodies run so many times."""
    count = 0
    for node in workflow.nodes.values():
        if isinstance(node, LLMCall):
            count += numbered is None or not isinstance(node.prompt, Template)
        if isinstance(node, Map):
            count += _unknown(node.body, numbered.bodies.get(node.id) if numbered else None)
        if isinstance(node, Loop):
            count += _unknown(node.body, None)
            count += _unknown(node.until, None) if node.until is not None else 0
    return count
