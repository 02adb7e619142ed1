"""The template prefix tree: what prompts begin with in common, before any prompt is rendered.

    model default
    └ system 'You are an analyst. '          88 calls per row, 1 prefix
      └ user 'Report: '
        ├ {report}                           3 distinct over 1,000 rows
        │ └ ' Bull case:'  ...

Its size depends on the templates, not on the batch: a vertex stands for all rows, and knows how
many different prefixes end in it (the distinct tuples of slot values on the way to it, by number).
Under perfect reuse every distinct prefix is computed once; every task asks for its whole prompt.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .nodes import LLMCall
from .numbers import Column
from .template import Slot


@dataclass(slots=True, eq=False)
class Vertex:
    """An edge of the tree and the point where it ends."""

    label: str | Slot
    """Static text (a model, a role or text of a prompt), or a slot: that of the first node whose
    prompt came here. Others may name theirs otherwise."""
    kind: str
    """`model`, `role`, `text` or `slot`."""
    parent: Vertex | None = None
    number: int = 0
    children: dict[Hashable, Vertex] = field(default_factory=dict)
    calls: list[Leaf] = field(default_factory=list)
    """Nodes whose prompts end here."""
    tokens: float = 0.0
    """Of this edge alone, on average over its distinct values."""
    distinct: int = 1
    """Different prefixes that end here."""
    tasks: int = 0
    """Tasks whose prompts go through here, merged ones once."""

    def path(self) -> list[Vertex]:
        """Vertices from the model down to this one."""
        way: list[Vertex] = []
        vertex: Vertex | None = self
        while vertex is not None:
            way.append(vertex)
            vertex = vertex.parent
        return way[::-1]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One LLM node of one workflow (or of a body in it)."""

    part: int
    name: str
    """Under which a run counts it: two maps may have one body, and with it the same nodes."""
    tasks: int
    """Tasks it has, merged ones counted each."""
    distinct: int
    """Tasks that are left once equal ones are merged."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The tree of a plan, and what it promises."""

    roots: tuple[Vertex, ...]
    """One per model."""
    asked: float
    """Prefill tokens of all tasks."""
    merged: float
    """Prefill tokens once equal calls are made only once."""
    computed: float
    """Prefill tokens if every distinct prefix is computed once."""
    unknown: int = 0
    """LLM nodes whose prompts are made at run time, and are in none of the numbers."""
    leaves: tuple[LeafCost, ...] = ()
    """What each LLM node has to do with the tokens of its prompts."""
    groups: tuple[Group, ...] = ()
    """Nodes with values in their prompts, those whose rows save most tokens by sharing first."""

    @property
    def requested(self) -> float:
        """Prompt tokens of the requests that calls become: one for each generation."""
        return sum(leaf.merged * leaf.call.sampling.n for leaf in self.leaves)

    def vertices(self) -> Iterator[Vertex]:
        """Every vertex, parents first."""
        stack = list(self.roots[::-1])
        while stack:
            vertex = stack.pop()
            yield vertex
            stack.extend(list(vertex.children.values())[::-1])

    def as_dict(self) -> dict[str, Any]:
        return {
            "asked": round(self.asked), "merged": round(self.merged),
            "computed": round(self.computed), "unknown_nodes": self.unknown,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeafCost:
    """Prompt tokens of one LLM node over all rows."""

    part: int
    name: str
    call: LLMCall
    asked: float
    """Of all its tasks."""
    merged: float
    """Of the calls it makes."""
    computed: float
    """That no node before it, and no row before in it, has computed."""
    tasks: int
    calls: int
    """Calls it makes: equal ones, and those that nodes before it make, are made once."""


@dataclass(frozen=True, slots=True)
class Group:
    """The prefixes of one LLM node's prompts, row by row."""

    part: int
    node: str
    """Its id, behind those of the bodies it is in; see `names`."""
    columns: tuple[Column, ...] = field(repr=False)
    """For each slot on the way, the number of the prefix that ends with it, by row. Columns before
    it stand for what its values begin with in common."""
    tokens: tuple[float, ...] = ()
    """Mean tokens that each of these adds, the static text behind it included."""
    saved: float = 0.0
    """Tokens that need not be computed when rows with one prefix share it."""
    cuts: tuple[Column | None, ...] = field(default=(), repr=False)
    """Along with the columns: characters of the slot's value that the prefix ends behind, by row;
    None where it ends with the whole value."""
