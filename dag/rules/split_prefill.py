"""Find prompts whose beginnings are known long before their last values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ..arg import Arg, Lit, Ref, refs
from ..nodes import LLMCall, Loop, Map, Node, ToolCall, Workflow
from ..rewriting import rewrite
from ..size import UNKNOWN, size_of
from ..template import Slot, Template

if TYPE_CHECKING:
    from ..logical import Part, Plan

MIN_TOKENS = 64.0
"""A shorter beginning is computed with the rest: one step of the engine does not feel it."""
CHARS_PER_TOKEN = 4.0
SAMPLED = 16
"""Rows whose columns are looked at for their lengths."""
LOOKED = 256
"""Values inside a row's value that are looked at: so many are longer than `MIN_TOKENS`."""

Lengths = Mapping[int, float]
"""Characters of an input's values, on average, by the id of the node: bodies have inputs of the
same names."""


def split_prefill(plan: Plan) -> Plan:
    """Compute what a prompt begins with while its late values are awaited.

    A value is late when more calls go before it than before what the prompt begins with. While
    these run, an idle engine computes the KV of the beginning, if that is long enough to matter.
    """
    return replace(plan, parts=tuple(_split_part(plan, part) for part in plan.parts))


def _split_part(plan: Plan, part: Part) -> Part:
    change = partial(_split, lengths=_lengths(part))
    return rewrite(replace(plan, parts=(part,)), change).parts[0]


def _lengths(part: Part) -> Lengths:
    rows = [row for row in islice(part.source, SAMPLED) if row is not None]
    found: dict[int, float] = {}
    for node in part.workflow.inputs:
        sizes = [size_of((row[node.id],), LOOKED).characters for row in rows if node.id in row]
        if sizes:
            found[id(node)] = sum(sizes) / len(sizes)
    return found


def _split(workflow: Workflow, lengths: Lengths) -> Workflow:
    depths: dict[str, int] = {}
    nodes: dict[str, Node] = {}
    for id, node in workflow.nodes.items():
        before = max((depths[need] for need in node.needs()), default=0)
        if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
            early = _early(node, node.prompt, depths)
            known = early is not None and _tokens(node, early, workflow, lengths) >= MIN_TOKENS
            node = replace(node, early=early) if known else node
        nodes[id] = node
        depths[id] = before + _calls(node)
    same = all(nodes[id] is node for id, node in workflow.nodes.items())
    return workflow if same else replace(workflow, nodes=nodes)


def _early(node: LLMCall, template: Template, depths: Mapping[str, int]) -> int | None:
    """How many slots go before the first late one; None when no value is late."""
    bound = dict(node.bound)
    ready = [_depth(bound.get(slot.name), depths) for slot in template.slots()]
    latest = max(ready, default=0)
    return next((i for i, depth in enumerate(ready) if depth == latest), None) if latest else None


def _depth(arg: Arg | None, depths: Mapping[str, int]) -> int:
    return max((depths[id] for id in refs(arg)), default=0) if arg is not None else 0


def _calls(node: Node) -> int:
    """Calls on the longest chain through a node."""
    if isinstance(node, LLMCall | ToolCall):
        return 1
    if isinstance(node, Map | Loop):
        depths: dict[str, int] = {}
        for inner in node.body.nodes.values():
            depths[inner.id] = _calls(inner) + max((depths[n] for n in inner.needs()), default=0)
        return max(depths.values(), default=0)
    return 0


def _tokens(node: LLMCall, early: int, workflow: Workflow, lengths: Lengths) -> float:
    """About how many tokens go before slot number `early`."""
    bound, chars, slots = dict(node.bound), 0.0, 0
    assert isinstance(node.prompt, Template)
    for message in node.prompt.messages:
        for piece in message.parts:
            if not isinstance(piece, Slot):
                chars += len(piece)
                continue
            if slots == early:
                return chars / CHARS_PER_TOKEN
            slots += 1
            chars += _chars(bound.get(piece.name), workflow, lengths)
    return chars / CHARS_PER_TOKEN


def _chars(arg: Arg | None, workflow: Workflow, lengths: Lengths) -> float:
    if isinstance(arg, Lit):
        return float(len(arg.value)) if type(arg.value) is str else UNKNOWN
    node = workflow.nodes.get(arg.id) if isinstance(arg, Ref) else None
    if isinstance(node, LLMCall):
        return node.sampling.max_tokens * CHARS_PER_TOKEN
    return lengths.get(id(node), UNKNOWN)
