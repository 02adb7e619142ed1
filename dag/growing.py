"""Growing the template prefix tree: from templates alone, whatever the batch."""

from __future__ import annotations

from os.path import commonprefix

from .counting import Counts, Planted
from .demand import certain
from .filled import filled
from .lengths import Lengths, Measure
from .names import counted_name
from .nodes import LLMCall, Map, Workflow
from .numbering import Numbered, Numbering
from .prefixes import Leaf, Prefixes, Vertex
from .template import Slot, Template


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
        always, names = certain(workflow) if surely else set(), self._numbering.names
        for node in workflow.nodes.values():
            sure = node.id in always
            if isinstance(node, LLMCall) and isinstance(node.prompt, Template):
                calls = numbered.columns[node.id]
                leaf = Leaf(part, counted_name(way, node.id), len(calls), len(set(calls)))
                vertex = self._vertex_of(names.get(node.model, node.model), node.prompt)
                vertex.calls.append(leaf)
                slots = tuple(filled(node, node.prompt, workflow, numbered, self._numbering))
                self._planted.append(Planted(leaf, node, slots, vertex, workflow, numbered, sure))
            body = numbered.bodies.get(node.id)
            if body is not None and isinstance(node, Map):
                self.add(node.body, body, part, (*way, node.id), sure)

    def grown(self, unknown: int) -> Prefixes:
        """The tree with its numbers. `unknown` nodes could not be added."""
        counts = Counts(self._numbering, self._lengths, self._merging)
        for planted in self._planted:
            counts.meet(planted)
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
