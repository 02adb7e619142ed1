"""Value numbering: a number for everything that is certain to have one value.

Instances are not objects. A node of a workflow has one array with a number for every row, and two
tasks with one number do the same work: same operator, same settings, arguments with the same
numbers. Nodes are numbered in the order of the workflow, so arguments have their numbers first and
one pass finds every level of equal work (the fixpoint), across rows, nodes and workflows.

What depends on more than its arguments (sampling without a seed, tools that read or write, prompts
made by running code) gets a fresh number for every row, and so does all that is made from it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, get_origin

from .arg import Arg, Fill, Lit, Rec, Ref, Seq
from .errors import OutputError
from .nodes import Branch, Const, Input, Map, Node, Project, Workflow
from .numbers import Column, Numbers
from .repeatable import OWN, Names, work_args, work_key
from .template import Path, project
from .types import field_type

Row = Mapping[str, Any]

_PLAIN = (dict, list, Any)
_VALUE = "value"


@dataclass(frozen=True, slots=True)
class Numbered:
    """The tasks of a workflow as numbers."""

    rows: int
    columns: Mapping[str, Column]
    """Node id -> the number of its value in every row."""
    bodies: Mapping[str, Numbered] = field(default_factory=dict)
    """The bodies of maps whose lists are known: one row per item."""


class Numbering(Numbers):
    """Numbers the tasks of workflows; keep one for all that may share work. `names` says which
    aliases are one model."""

    def __init__(self, names: Names = OWN) -> None:
        super().__init__()
        self.names = names

    def read(self, inputs: tuple[Input, ...], rows: Iterable[Row | None]) -> dict[str, Column]:
        """Numbers of the rows' columns. A row that cannot be read (None) shares nothing."""
        columns = {i.id: array("i") for i in inputs}
        known = [(i, columns[i.id].append) for i in inputs]
        since = self.fresh()
        for row in rows:
            for node, append in known:
                if row is None:
                    append(self.fresh())
                elif node.id in row:
                    append(self.given(row[node.id], node.type))
                else:
                    append(self.fresh() if node.default is ... else self.value(node.default))
        # Columns that have a value in common are no blocks.
        holders = Counter(chain.from_iterable(map(set, columns.values())))
        shared = {number for number, count in holders.items() if count > 1}
        return {
            id: self.settled(column, since) if shared.isdisjoint(column) else column
            for id, column in columns.items()
        }

    def number(self, workflow: Workflow, columns: dict[str, Column], rows: int) -> Numbered:
        """The numbers of every node's value, given those of the inputs."""
        bodies: dict[str, Numbered] = {}
        for node in workflow.nodes.values():
            if node.id not in columns:
                columns[node.id] = self._node(node, workflow, columns, rows)
            if isinstance(node, Map):
                body = self._body(node, columns, rows)
                if body is not None:
                    bodies[node.id] = body
        return Numbered(rows, columns, bodies)

    def _node(
        self, node: Node, workflow: Workflow, columns: Mapping[str, Column], rows: int
    ) -> Column:
        match node:
            case Const(value=value):
                return self._constant(value, rows)
            case Project(of=Ref(id), path=path) if may_look_into(workflow.nodes[id], path):
                return self.parts(columns[id], path, node.type)
            case Project():
                signature: Hashable = ("project", node.path)
            case Branch():
                signature = "branch"
            case _:
                signature = work_key(node, self.names)
        if signature is None:
            return self.fresh_column(rows)
        leaves: list[str | int] = []
        shape = tuple((name, self._shape(arg, leaves)) for name, arg in work_args(node))
        return self.combine((signature, shape), self._columns(leaves, columns), rows)

    def _constant(self, value: Any, rows: int) -> Column:
        since = self.fresh()
        return self.settled(array("i", repeat(self.value(value), rows)), since)

    def _columns(
        self, leaves: Iterable[str | int], columns: Mapping[str, Column]
    ) -> list[Column | int]:
        return [leaf if isinstance(leaf, int) else columns[leaf] for leaf in leaves]

    def _shape(self, arg: Arg, leaves: list[str | int]) -> Hashable:
        """How an argument is put together; its values and references go to `leaves`."""
        match arg:
            case Ref(id):
                leaves.append(id)
                return _VALUE
            case Lit(value):
                leaves.append(self.value(value))
                return _VALUE
            case Seq(items, kind):
                return (kind, tuple(self._shape(item, leaves) for item in items))
            case Rec(pairs):
                return (dict, tuple((key, self._shape(item, leaves)) for key, item in pairs))
            case Fill(text, bound):
                return (text, tuple((name, self._shape(item, leaves)) for name, item in bound))

    # -- maps over known lists -----------------------------------------------------------------

    def _body(self, node: Map, columns: Mapping[str, Column], rows: int) -> Numbered | None:
        """The body's tasks for every item of every row; None when the lists are not known."""
        if not isinstance(node.over, Ref | Lit):
            return None
        over = node.over
        lists = columns[over.id] if isinstance(over, Ref) else repeat(self.value(over.value), rows)
        items, widths = array("i"), array("i")
        kind = next(i.type for i in node.body.inputs if i.id == node.item)
        since = self.fresh()
        found: dict[int, list[int]] = {}
        for number in lists:
            if number not in found:
                value = self.values.get(number)
                if not isinstance(value, list | tuple) or len(value) > node.max_width:
                    return None
                found[number] = [self.given(item, kind) for item in value]
            items.extend(found[number])
            widths.append(len(found[number]))
        inner = {node.item: self.settled(items, since)}
        for name, arg in node.bound:
            leaves: list[str | int] = []
            shape = self._shape(arg, leaves)
            taken = self._columns(leaves, columns)
            column = taken[0] if shape == _VALUE else self.combine(shape, taken, rows)
            inner[name] = _stretch(column, widths)
        for other in node.body.inputs:
            if other.id not in inner:
                inner[other.id] = self._constant(other.default, len(items))
        return self.number(node.body, inner, len(items))

    # -- parts of known values -----------------------------------------------------------------

    def parts(self, of: Column, path: Path, kind: Any) -> Column:
        """The numbers of what a path leads to in these values, which is read as a type."""
        since = self.fresh()
        found = {number: self.part(number, path, kind) for number in dict.fromkeys(of)}
        return self.settled(array("i", map(found.__getitem__, of)), since)

    def part(self, number: int, path: Path, kind: Any) -> int:
        """The same of one value."""
        try:
            value = project(self.values[number], path)
        except (OutputError, KeyError):
            return self.combine_one(("project", path), (number,))
        return self.given(value, kind)


def may_look_into(node: Node, path: Path) -> bool:
    """Whether a part of this node's value depends on nothing but the same part of the row.

    A model's validators may work one field out from others, so parts of models are not read.
    """
    if isinstance(node, Const):
        return True
    if not isinstance(node, Input):
        return False
    kind = node.type
    for step in path:
        if kind not in _PLAIN and get_origin(kind) not in _PLAIN:
            return False
        kind = field_type(kind, step)
    return True


def _stretch(column: Column | int, widths: Column) -> Column:
    """Every row's number as many times as it has items."""
    numbers = repeat(column) if isinstance(column, int) else column
    out = array("i")
    for number, width in zip(numbers, widths, strict=False):
        out.extend(repeat(number, width))
    return out
