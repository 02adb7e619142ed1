"""Find prompts whose beginnings are known long before their last values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..arg import Arg, Lit, Ref, refs
from ..lengths import CHARS_PER_TOKEN, UNKNOWN_TOKENS, Measure
from ..nodes import LLMCall, Loop, Map, Node, ToolCall, Workflow
from ..rewriting import rewrite
from ..size import size_of, texts_in
from ..template import Slot, Template

if TYPE_CHECKING:
    from ..logical import Part, Plan

MIN_TOKENS = 64.0
"""A shorter beginning is computed with the rest: one step of the engine does not feel it."""
SAMPLED = 16
"""Rows whose columns are looked at for their lengths."""
LOOKED = 256
"""Values inside a row's value that are looked at: so many are longer than `MIN_TOKENS`."""
MEASURED = 1_000
"""Characters of texts that are measured to learn how long their tokens are."""

Lengths = Mapping[int, float]
"""Tokens of an input's values, on average, by the id of the node: bodies have inputs of the same
names."""


def split_prefill(plan: Plan) -> Plan:
    """Compute what a prompt begins with while its late values are awaited.

    A value is late when more calls go before it than before what the prompt begins with. While
    these run, an idle engine computes the KV of the beginning, if that is long enough to matter.
    """
    return replace(plan, parts=tuple(_split_part(plan, part) for part in plan.parts))


def _split_part(plan: Plan, part: Part) -> Part:
    measure = plan.measure or _roughly
    change = partial(_split, lengths=_lengths(part, measure), measure=measure)
    return rewrite(replace(plan, parts=(part,)), change).parts[0]


def _roughly(text: str) -> float:
    return len(text) / CHARS_PER_TOKEN


def _lengths(part: Part, measure: Measure) -> Lengths:
    rows = [row for row in islice(part.source, SAMPLED) if row is not None]
    found: dict[int, float] = {}
    for node in part.workflow.inputs:
        values = [row[node.id] for row in rows if node.id in row]
        if values:
            found[id(node)] = sum(_tokens_in(value, measure) for value in values) / len(values)
    return found


def _tokens_in(value: Any, measure: Measure) -> float:
    """About how many tokens a value takes: as long as those of the texts in it."""
    characters = size_of((value,), LOOKED).characters
    text = "".join(text[:MEASURED] for text in texts_in((value,), LOOKED))[:MEASURED]
    return characters * (measure(text) / len(text) if text else 1 / CHARS_PER_TOKEN)


def _split(workflow: Workflow, lengths: Lengths, measure: Measure) -> Workflow:
    depths: dict[str, int] = {}
    nodes: dict[str, Node] = {}
    for id, node in workflow.nodes.items():
        before = max((depths[need] for need in node.needs()), default=0)
        if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
            early = _early(node, node.prompt, depths)
            if early is not None:
                given = _given(node, workflow, lengths, measure)
                if _tokens(node.prompt, early, given, measure) >= MIN_TOKENS:
                    node = replace(node, early=early)
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


def _tokens(template: Template, early: int, given: Mapping[str, float], measure: Measure) -> float:
    """About how many tokens go before slot number `early`. `given`: those of every slot."""
    found, slots = 0.0, 0
    for message in template.messages:
        for piece in message.parts:
            if not isinstance(piece, Slot):
                found += measure(piece)
                continue
            if slots == early:
                return found
            slots += 1
            found += given.get(piece.name, UNKNOWN_TOKENS)
    return found


def _given(
    node: LLMCall, workflow: Workflow, lengths: Lengths, measure: Measure
) -> Mapping[str, float]:
    """About how many tokens the arguments of a call take."""
    return {name: _of_arg(arg, workflow, lengths, measure) for name, arg in node.bound}


def _of_arg(arg: Arg, workflow: Workflow, lengths: Lengths, measure: Measure) -> float:
    if isinstance(arg, Lit):
        return measure(arg.value) if type(arg.value) is str else UNKNOWN_TOKENS
    node = workflow.nodes.get(arg.id) if isinstance(arg, Ref) else None
    if isinstance(node, LLMCall):
        return float(node.sampling.max_tokens)
    return lengths.get(id(node), UNKNOWN_TOKENS)
