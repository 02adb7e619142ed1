"""Growing the template prefix tree, and counting what is shared in it.

The tree grows from templates alone. Then every LLM node walks down its way once, carrying one
number per row: the number of the prefix so far. At a slot it is combined with the number of the
value there. Equal numbers are equal prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix

from .arg import Arg, Lit, Ref
from .demand import certain
from .lengths import CLOSING, OPENING, Lengths, Measure
from .names import counted_name
from .nodes import LLMCall, Map, Workflow
from .numbering import Numbered, Numbering
from .numbers import Column
from .prefixes import Group, Leaf, LeafCost, Prefixes, Vertex
from .template import Slot, Template

NOTHING = (-1,)
"""The number of the prefix before the first slot: the same for every row."""


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """An LLM node and the vertex its prompt ends in."""

    leaf: Leaf
    node: LLMCall
    vertex: Vertex
    workflow: Workflow
    numbered: Numbered
    certain: bool
    """Whether every row runs it, and not only those that take one side of a branch."""


class Grower:
    """Grows the tree, one prompt template at a time."""

    def __init__(
        self, numbering: Numbering, measure: Measure | None = None, merging: bool = True
    ) -> None:
        self._merging = merging
        self._numbering = numbering
        self._lengths = Lengths(numbering, measure)
        self._roots: dict[str, Vertex] = {}
        self._count = 0
        self._planted: list[Planted] = []

    def add(
        self, workflow: Workflow, numbered: Numbered, part: int, way: tuple[str, ...] = (),
        surely: bool = True,
    ) -> None:  # fmt: skip
        """Every LLM node of a workflow, or of a body at the end of a `way`, whose prompt is a
        template. A body that does not run `surely` is on one side of a branch."""
        always = certain(workflow) if surely else set()
        for node in workflow.nodes.values():
            sure = node.id in always
            if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
                calls = numbered.columns[node.id]
                leaf = Leaf(part, counted_name(way, node.id), len(calls), len(set(calls)))
                vertex = self._vertex_of(node.model, node.prompt)
                vertex.calls.append(leaf)
                self._planted.append(Planted(leaf, node, vertex, workflow, numbered, sure))
            body = numbered.bodies.get(node.id)
            if body is not None and isinstance(node, Map):
                self.add(node.body, body, part, (*way, node.id), sure)

    def grown(self, unknown: int) -> Prefixes:
        """The tree with its numbers. `unknown` nodes could not be added."""
        counts = Counts(self._numbering, self._lengths, self._merging)
        # What may never run computes nothing for what is certain to.
        for planted in sorted(self._planted, key=lambda planted: not planted.certain):
            counts.walk(planted)
        counts.fill()
        groups = sorted(counts.groups, key=lambda g: -g.saved)
        leaves = tuple(counts.leaves)
        asked, merged, computed = (
            sum(getattr(leaf, name) for leaf in leaves) for name in ("asked", "merged", "computed")
        )
        roots = tuple(self._roots.values())
        return Prefixes(roots, asked, merged, computed, unknown, leaves, tuple(groups))

    # -- templates -----------------------------------------------------------------------------

    def _vertex_of(self, model: str, template: Template) -> Vertex:
        """Where a prompt ends, with all that goes before it."""
        root = self._roots.get(model)
        if root is None:
            root = self._roots[model] = self._vertex(model, "model", None)
        vertex = root
        for message in template.messages:
            vertex = self._child(vertex, "role", message.role)
            for piece in message.parts:
                if isinstance(piece, Slot):
                    vertex = self._child(vertex, "slot", piece)
                elif piece:
                    vertex = self._text(vertex, piece)
        return vertex

    def _child(self, parent: Vertex, kind: str, label: str | Slot) -> Vertex:
        # Slots are one edge whatever fills them: values tell prefixes apart, names do not.
        key = (kind, (label.path, label.conversion, label.spec) if kind == "slot" else label)  # type: ignore[union-attr]
        child = parent.children.get(key)
        if child is None:
            child = parent.children[key] = self._vertex(label, kind, parent)
        return child

    def _text(self, parent: Vertex, text: str) -> Vertex:
        """Go down along static text, splitting an edge where it parts from it."""
        while text:
            child = parent.children.get(("text", text[0]))
            if child is None:
                child = self._vertex(text, "text", parent)
                parent.children["text", text[0]] = child
                return child
            label = str(child.label)
            same = len(commonprefix([label, text]))
            if same < len(label):
                child = self._split(child, same)
            parent, text = child, text[same:]
        return parent

    def _split(self, vertex: Vertex, at: int) -> Vertex:
        label, parent = str(vertex.label), vertex.parent
        assert parent is not None
        upper = self._vertex(label[:at], "text", parent)
        parent.children["text", label[0]] = upper
        vertex.label, vertex.parent = label[at:], upper
        upper.children["text", label[at]] = vertex
        return upper

    def _vertex(self, label: str | Slot, kind: str, parent: Vertex | None) -> Vertex:
        self._count += 1
        return Vertex(label, kind, parent, self._count)


class Counts:
    """What the nodes that walk down the tree leave at its vertices."""

    def __init__(self, numbering: Numbering, lengths: Lengths, merging: bool) -> None:
        self._merging = merging
        self.vertices: list[Vertex] = []
        self.leaves: list[LeafCost] = []
        self.groups: list[Group] = []
        self._numbering, self._lengths = numbering, lengths
        self._ends: dict[Vertex, dict[int, float]] = {}
        """Prefixes that end in a vertex, each with the tokens of its last edge."""
        self._ended: dict[Vertex, set[int]] = {}
        """Prefixes with which whole prompts end there."""
        self._seen: set[int] = set()
        """Calls counted already: equal ones of other nodes are the same."""

    def walk(self, planted: Planted) -> None:
        """Carry one node's rows down from the root."""
        rows = planted.numbered.rows
        firsts = self._first_rows(planted.numbered.columns[planted.node.id])
        prefix: Column | None = None
        bound = dict(planted.node.bound)
        columns: list[Column] = []
        levels: list[float] = []
        asked = merged = computed = saved = 0.0
        for vertex in planted.vertex.path():
            ends = self._ends.setdefault(vertex, {})
            before = len(ends)
            if isinstance(vertex.label, Slot):
                lengths, values = self._slot(planted, vertex.label, bound)
                prefix = self._numbering.behind(vertex.number, prefix, values, rows)
                if isinstance(lengths, float):  # nothing is known of the values
                    ends.update(dict.fromkeys(prefix, lengths))
                    every, once = lengths * rows, lengths * len(firsts)
                else:
                    numbers = [values] * rows if isinstance(values, int) else values
                    ends.update(zip(prefix, map(lengths.__getitem__, numbers), strict=True))
                    every = sum(map(lengths.__getitem__, numbers))
                    once = every if len(firsts) == rows else _total(lengths, values, firsts)
                columns.append(prefix)
                levels.append(every / max(rows, 1))
            else:
                tokens = self._lengths.of_static(vertex)
                ends.update(dict.fromkeys(NOTHING if prefix is None else prefix, tokens))
                every, once = tokens * rows, tokens * len(firsts)
                if levels:
                    levels[-1] += tokens
            fresh = sum(islice(ends.values(), before, None))
            asked, merged, computed = asked + every, merged + once, computed + fresh
            saved += once - fresh if columns else 0.0
            vertex.tasks += len(firsts)
        ended = self._ended.setdefault(planted.vertex, set())
        before = len(ended)
        ended.update(NOTHING if prefix is None else prefix)
        tokens = CLOSING + OPENING
        asked, merged = asked + tokens * rows, merged + tokens * len(firsts)
        computed += tokens * (len(ended) - before)
        part, name, calls = planted.leaf.part, planted.leaf.name, len(firsts)
        self.leaves.append(LeafCost(part, name, planted.node, asked, merged, computed, rows, calls))
        if columns:
            self.groups.append(Group(part, name, tuple(columns), tuple(levels), saved))

    def fill(self) -> None:
        """Write the counts into the tree."""
        for vertex, ends in self._ends.items():
            vertex.distinct = len(ends)
            vertex.tokens = sum(ends.values()) / len(ends) if ends else 0.0
            self.vertices.append(vertex)

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

    def _slot(
        self, planted: Planted, slot: Slot, bound: dict[str, Arg]
    ) -> tuple[dict[int, float] | float, Column | int]:
        """How long every value is in this slot, all alike when none is known, and the values that
        fill it, by number."""
        arg = bound.get(slot.name)
        match arg:
            case Ref(id):
                values: Column | int = planted.numbered.columns[id]
            case Lit(value):
                values = self._numbering.value(value)
            case _:
                values = planted.numbered.columns[planted.node.id]
        expected = self._lengths.expected(planted.workflow, arg)
        numbers = {values} if isinstance(values, int) else set(values)
        if numbers.isdisjoint(self._numbering.values):
            return expected, values
        length = self._lengths.in_slot(slot, expected)
        return {number: length(number) for number in numbers}, values


def _total(tokens: Mapping[int, float], values: Column | int, rows: Sequence[int]) -> float:
    """Tokens of the values in these rows."""
    if isinstance(values, int):
        return tokens[values] * len(rows)
    return sum(tokens[values[row]] for row in rows)
