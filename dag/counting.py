"""Counting what prompts share in the template prefix tree.

Every LLM node walks down its way once, carrying one number per row: the number of the prefix so
far. At a slot it is combined with the number of the value there. Equal numbers are equal prefixes.
Where values that are known begin alike (see `beginnings`), a slot is walked in pieces: first what
they have in common, then the rest.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import repeat

from .beginnings import Begun, Level
from .filled import Filled
from .lengths import CLOSING, OPENING, Lengths
from .nodes import LLMCall, Workflow
from .numbering import Numbered, Numbering
from .numbers import Column
from .prefixes import Group, Leaf, LeafCost, Vertex
from .template import Slot

NOTHING = -1
"""The number of the prefix before the first slot: the same for every row."""


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """An LLM node and the vertex its prompt ends in."""

    leaf: Leaf
    node: LLMCall
    slots: tuple[Filled, ...]
    """Of its prompt, in the order of the text."""
    vertex: Vertex
    workflow: Workflow
    numbered: Numbered
    certain: bool
    """Whether every row runs it, and not only those that take one side of a branch."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a step down the tree adds to every row's prompt."""

    prefix: Column | None
    """The number of the prefix that ends with it, by row; None where all rows are alike."""
    tokens: Sequence[float] | float
    """By row, or one number for all."""
    cut: Column | None = None
    """Characters of the slot's value up to where it goes, by row; None: to its end."""

    def rows(self, rows: int) -> int:
        """Of so many rows, those that it adds something to."""
        if self.cut is None or isinstance(self.tokens, int | float):
            return rows
        return sum(map(bool, self.tokens))


@dataclass(slots=True)
class Ended:
    """The prefixes that end at one place, and the tokens of their last pieces."""

    prefixes: set[int] = field(default_factory=set)
    tokens: float = 0.0


class Counts:
    """What the nodes that walk down the tree leave at its vertices."""

    def __init__(self, numbering: Numbering, lengths: Lengths, merging: bool) -> None:
        self._merging = merging
        self.leaves: list[LeafCost] = []
        self.groups: list[Group] = []
        self._numbering, self._lengths = numbering, lengths
        self._begun = Begun(numbering, lengths)
        self._ends: dict[Vertex, Ended] = defaultdict(Ended)
        """Prefixes that end in a vertex."""
        self._inside: dict[Vertex, Ended] = defaultdict(Ended)
        """Prefixes that end inside a slot's value."""
        self._ended: dict[Vertex, set[int]] = defaultdict(set)
        """Prefixes with which whole prompts end there."""
        self._seen: set[int] = set()
        """Calls counted already: equal ones of other nodes are the same."""

    def meet(self, planted: Planted) -> None:
        """Note what one node shows where; to be done for all nodes before any is walked."""
        path = (v for v in planted.vertex.path() if isinstance(v.label, Slot))
        for vertex, filled in zip(path, planted.slots, strict=True):
            self._begun.meet(vertex, filled)

    def walk(self, planted: Planted) -> None:
        """Carry one node's rows down from the root."""
        rows = planted.numbered.rows
        firsts = self._first_rows(planted.numbered.columns[planted.node.id])
        prefix: Column | None = None
        different: Set[int] = {NOTHING}
        columns: list[Column] = []
        cuts: list[Column | None] = []
        levels: list[float] = []
        asked = merged = computed = saved = 0.0
        slots = iter(planted.slots)
        for vertex in planted.vertex.path():
            filled = next(slots) if isinstance(vertex.label, Slot) else None
            for piece in self._pieces(planted, vertex, filled, prefix):
                if piece.prefix is not None and piece.prefix is not prefix:
                    prefix, different = piece.prefix, set(piece.prefix)
                every, once = _sums(piece.tokens, rows, firsts)
                fresh = self._add(vertex, piece, different)
                asked, merged, computed = asked + every, merged + once, computed + fresh
                if filled is not None:
                    assert prefix is not None
                    columns.append(prefix)
                    cuts.append(piece.cut)
                    levels.append(every / max(piece.rows(rows), 1))
                elif levels:
                    levels[-1] += every / max(rows, 1)
                saved += once - fresh if columns else 0.0
            vertex.tasks += len(firsts)
        ended = self._ended[planted.vertex]
        before = len(ended)
        ended |= different
        tokens = CLOSING + OPENING
        asked, merged = asked + tokens * rows, merged + tokens * len(firsts)
        computed += tokens * (len(ended) - before)
        part, name, calls = planted.leaf.part, planted.leaf.name, len(firsts)
        self.leaves.append(LeafCost(part, name, planted.node, asked, merged, computed, rows, calls))
        if columns:
            self.groups.append(Group(part, name, tuple(columns), tuple(levels), saved, tuple(cuts)))

    def fill(self) -> None:
        """Write the counts into the tree."""
        for vertex, ends in self._ends.items():
            vertex.distinct = len(ends.prefixes)
            tokens = ends.tokens + self._inside[vertex].tokens
            vertex.tokens = tokens / vertex.distinct if vertex.distinct else 0.0

    def _add(self, vertex: Vertex, piece: Piece, prefixes: Set[int]) -> float:
        """Note the different prefixes that end with a piece; the tokens of those that are new."""
        ended = (self._ends if piece.cut is None else self._inside)[vertex]
        if isinstance(piece.tokens, int | float):
            new = prefixes - ended.prefixes
            tokens = piece.tokens * len(new)
        else:
            assert piece.prefix is not None
            both = zip(piece.prefix, piece.tokens, strict=True)
            found = {prefix: tokens for prefix, tokens in both if prefix not in ended.prefixes}
            new, tokens = found.keys(), sum(found.values())
        ended.prefixes.update(new)
        ended.tokens += tokens
        return tokens

    def _first_rows(self, calls: Column) -> Sequence[int]:
        """One row for every call that no node before makes; every row when calls do not merge."""
        if not self._merging:
            return range(len(calls))
        new = set(calls) - self._seen
        self._seen |= new
        if len(new) == len(calls):
            return range(len(calls))
        first = dict(zip(reversed(calls), range(len(calls) - 1, -1, -1), strict=True))
        return [first[call] for call in new]

    # -- pieces --------------------------------------------------------------------------------

    def _pieces(
        self, planted: Planted, vertex: Vertex, filled: Filled | None, prefix: Column | None
    ) -> Iterator[Piece]:
        """What a vertex adds: a text is one piece, a slot as many as its values begin alike in."""
        if filled is None:
            yield Piece(prefix, self._lengths.of_static(vertex))
            return
        rows, values = planted.numbered.rows, filled.values
        lengths = self._lengths_of(planted, filled)
        ends = self._numbering.behind(vertex.number, prefix, values, rows)
        if isinstance(lengths, float):  # nothing is known of the values
            yield Piece(ends, lengths)
            return
        levels = self._begun.levels(vertex, values, rows)
        if isinstance(values, int) and not levels:
            yield Piece(ends, lengths[values])
            return
        numbers = [values] * rows if isinstance(values, int) else values
        rest, before = list(map(lengths.__getitem__, numbers)), prefix
        for level in levels:
            piece = self._begins(vertex, prefix, before, level)
            rest = [max(0.0, r - t) for r, t in zip(rest, level.tokens, strict=True)]
            before = piece.prefix
            yield piece
        yield Piece(ends, rest)

    def _begins(
        self, vertex: Vertex, prefix: Column | None, before: Column | None, level: Level
    ) -> Piece:
        """The piece of the values that have this beginning behind `prefix`; those that have not
        stay where the piece `before` ends."""
        numbers = level.numbers
        joined = self._numbering.behind(vertex.number, prefix, numbers, len(numbers))
        stay = before if before is not None else repeat(NOTHING)
        ends = (j if n >= 0 else s for j, n, s in zip(joined, numbers, stay, strict=False))
        return Piece(array("i", ends), level.tokens, level.ends)

    def _lengths_of(self, planted: Planted, filled: Filled) -> dict[int, float] | float:
        """How long every value is in its slot, by number; all alike when none is known."""
        expected = self._lengths.expected(planted.workflow, filled.arg)
        values = (filled.values,) if isinstance(filled.values, int) else filled.values
        if self._numbering.values.keys().isdisjoint(values):
            return expected
        length = self._lengths.in_slot(filled.slot, expected)
        return {number: length(number) for number in set(values)}


def _sums(tokens: Sequence[float] | float, rows: int, firsts: Sequence[int]) -> tuple[float, float]:
    """Tokens of all rows, and of these."""
    if isinstance(tokens, int | float):
        return tokens * rows, tokens * len(firsts)
    every = sum(tokens)
    return every, every if len(firsts) == rows else sum(map(tokens.__getitem__, firsts))
