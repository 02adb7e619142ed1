"""Put what rows share in front, among the parts of a prompt whose order does not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

from ..arg import Lit, Ref
from ..lengths import Lengths
from ..logical import with_numbers
from ..nodes import LLMCall, Map, Node, Workflow
from ..numbering import Numbered, Numbering
from ..numbers import Column
from ..template import Free, Part, Slot, Template, Text
from ..unordered import permuted

if TYPE_CHECKING:
    from ..logical import Plan

Distinct = Callable[[frozenset[int]], int]
"""How many different beginnings these parts make, whichever comes first."""

EXACT = 8
"""Parts of which every order is compared; more are ordered greedily."""


def reorder_parts(plan: Plan) -> Plan:
    """Order the parts marked with `plait.unordered` so that more of the prompts is shared.

    A part is computed once for every different beginning that ends with it, so what has few values
    goes first, weighed by its length; a part that those before it determine costs nothing anew and
    goes right behind them. All rows get the same order. Prompts without marked parts stay.
    """
    if not any(_marked(part.workflow) for part in plan.parts):
        return plan
    numbered = with_numbers(plan)
    assert numbered.numbering is not None
    ordering = _Ordering(numbered.numbering, Lengths(numbered.numbering, plan.measure))
    parts = []
    for old, part in zip(plan.parts, numbered.parts, strict=True):
        assert part.numbered is not None
        workflow = ordering.workflow(old.workflow, part.numbered)
        parts.append(old if workflow is old.workflow else replace(old, workflow=workflow))
    return replace(plan, parts=tuple(parts))


def _marked(workflow: Workflow) -> bool:
    prompts = (n.prompt for b in workflow.bodies() for n in b.nodes.values()
               if isinstance(n, LLMCall))  # fmt: skip
    return any(text.free for p in prompts if isinstance(p, Template) for text in p.messages)


class _Ordering:
    """Reads the numbers of the rows to order parts."""

    def __init__(self, numbering: Numbering, lengths: Lengths) -> None:
        self._numbering, self._lengths = numbering, lengths

    def workflow(self, workflow: Workflow, numbered: Numbered) -> Workflow:
        nodes: dict[str, Node] = {}
        for id, node in workflow.nodes.items():
            if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
                prompt = self._template(node, node.prompt, workflow, numbered)
                node = node if prompt is node.prompt else replace(node, prompt=prompt)
            elif isinstance(node, Map) and id in numbered.bodies:
                body = self.workflow(node.body, numbered.bodies[id])
                node = node if body is node.body else replace(node, body=body)
            nodes[id] = node
        same = all(nodes[id] is node for id, node in workflow.nodes.items())
        return workflow if same else replace(workflow, nodes=nodes)

    def _template(
        self, node: LLMCall, prompt: Template, workflow: Workflow, numbered: Numbered
    ) -> Template:
        if not any(text.free for text in prompt.messages) or not numbered.rows:
            return prompt
        view = _Values(node, workflow, numbered, self._numbering, self._lengths)
        before: list[Part] = []
        messages: list[Text] = []
        for text in prompt.messages:
            pieces = text.parts
            for spans in text.free:
                ahead = view.columns([*before, *pieces[: spans[0][0]]])
                pieces = permuted(pieces, spans, view.order(pieces, spans, ahead))
            messages.append(Text(text.role, pieces))
            before += pieces
        return replace(prompt, messages=tuple(messages))


class _Values:
    """What fills the slots of one node's prompt, row by row."""

    def __init__(
        self, node: LLMCall, workflow: Workflow, numbered: Numbered, numbering: Numbering,
        lengths: Lengths,
    ) -> None:  # fmt: skip
        self._node, self._workflow, self._numbered = node, workflow, numbered
        self._bound, self._numbering, self._lengths = dict(node.bound), numbering, lengths

    def columns(self, pieces: Sequence[Part]) -> list[Column]:
        """The numbers of the values in these pieces; those that never change left out."""
        found = (self._column(piece) for piece in pieces if isinstance(piece, Slot))
        return [column for column in found if column is not None]

    def order(self, pieces: Sequence[Part], spans: Free, ahead: list[Column]) -> list[int]:
        """The parts in the order that computes fewest tokens behind what stands ahead."""
        parts = [pieces[start:end] for start, end in spans]
        columns = [self.columns(part) for part in parts]
        tokens = [self._tokens(part) for part in parts]

        @cache
        def distinct(chosen: frozenset[int]) -> int:
            used = [*ahead, *(c for part in sorted(chosen) for c in columns[part])]
            return len(set(zip(*used, strict=True))) if used else 1

        return best_order(tokens, distinct)

    def _column(self, slot: Slot) -> Column | None:
        match self._bound.get(slot.name):
            case Ref(id):
                return self._numbered.columns[id]
            case Lit():
                return None
            case _:
                return self._numbered.columns[self._node.id]

    def _tokens(self, pieces: Sequence[Part]) -> float:
        total = 0.0
        for piece in pieces:
            column = self._column(piece) if isinstance(piece, Slot) else None
            if isinstance(piece, str):
                total += self._lengths.of_text(piece)
            elif column is not None:
                expected = self._lengths.expected(self._workflow, self._bound.get(piece.name))
                total += fmean(map(self._lengths.in_slot(piece, expected), column))
        return total


def best_order(tokens: Sequence[float], distinct: Distinct) -> list[int]:
    """The order in which fewest tokens are computed, the written one among equals.

    A part costs its tokens once for every different beginning up to its end, and how many there
    are depends only on which parts those are: the best order of every set is worked out from the
    best orders of the sets with one part less.
    """
    count = len(tokens)
    if count > EXACT:
        return _greedy(tokens, distinct)
    best: dict[frozenset[int], tuple[float, list[int]]] = {frozenset(): (0.0, [])}
    for _ in range(count):
        longer: dict[frozenset[int], tuple[float, list[int]]] = {}
        for chosen, (cost, order) in best.items():
            for part in range(count):
                if part not in chosen:
                    grown = chosen | {part}
                    found = (cost + tokens[part] * distinct(grown), [*order, part])
                    longer[grown] = min(longer.get(grown, found), found)
        best = longer
    return best[frozenset(range(count))][1]


def _greedy(tokens: Sequence[float], distinct: Distinct) -> list[int]:
    """What adds fewest beginnings per token goes next; what adds none is free."""
    order: list[int] = []
    left = list(range(len(tokens)))
    while left:
        now = frozenset(order)
        base = distinct(now)
        part = min(left, key=lambda p: ((distinct(now | {p}) - base) / max(tokens[p], 1e-9), p))
        order.append(part)
        left.remove(part)
    return order
