"""What fills the slots of one node's prompt: the numbers of the values that are shown there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from .arg import Arg, Lit, Ref
from .nodes import Input, LLMCall, Node, Workflow
from .numbering import Numbered, Numbering, may_look_into
from .numbers import Column
from .template import Slot, Template
from .types import field_type


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """One slot of a node, and what fills it."""

    slot: Slot
    """As the node names it: nodes that share a vertex of the prefix tree may name theirs otherwise.
    Without its path where `values` are the parts it leads to."""
    arg: Arg | None
    values: Column | int
    """By row, or one for all."""

    @property
    def as_it_is(self) -> bool:
        """Whether texts are shown as they are, so that a beginning of one is one of the prompt."""
        return self.slot.conversion != "r" and not self.slot.path and not self.slot.spec


def filled(
    node: LLMCall, template: Template, workflow: Workflow, numbered: Numbered, numbering: Numbering
) -> Iterator[Filled]:
    """The slots of a node's prompt, in the order of the text."""
    bound = dict(node.bound)
    for slot in template.slots():
        arg = bound.get(slot.name)
        match arg:
            case Ref(id):
                yield _column(slot, arg, workflow.nodes[id], numbered.columns[id], numbering)
            case Lit(value):
                number = numbering.value(value)
                part = numbering.part(number, slot.path, Any) if slot.path else number
                yield Filled(replace(slot, path=()), arg, part)
            case _:
                yield Filled(slot, arg, numbered.columns[node.id])


def _column(slot: Slot, arg: Arg, node: Node, values: Column, numbering: Numbering) -> Filled:
    try:
        if not slot.path or not may_look_into(node, slot.path):
            return Filled(slot, arg, values)
        kind = reduce(field_type, slot.path, node.type) if isinstance(node, Input) else Any
    except KeyError:  # no such part: the row will fail
        return Filled(slot, arg, values)
    return Filled(replace(slot, path=()), arg, numbering.parts(values, slot.path, kind))
