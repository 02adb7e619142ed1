"""The names one YAML workflow (or operator) knows, and the problems found while reading it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .arg import Arg, Args, Fill, Lit, Rec, Ref, Seq
from .edges import type_of
from .errors import Problem, nearest
from .nodes import Node, Project, Workflow
from .operators import Operator
from .template import Part, Slot, Text, path_text
from .types import field_type
from .yaml_refs import lone, read_parts
from .yaml_text import Value


@dataclass(slots=True)
class Scope:
    """What a definition may refer to."""

    names: tuple[str, ...]
    """Inputs and nodes of this workflow, whether read yet or not."""
    tools: Mapping[str, Operator[Any, Any]]
    body: Callable[[Value], Workflow | None]
    """Reads the name of an operator or tool as a workflow, for map and loop."""
    problems: list[Problem]
    nodes: dict[str, Node] = field(default_factory=dict)
    """Nodes read so far, in the order of the DAG."""

    # -- problems ------------------------------------------------------------------------------

    def wrong(self, at: Value, message: str, hint: str) -> None:
        self.problems.append(at.source.problem(message, hint))

    def keys(self, of: dict[str, Value], known: Collection[str], what: str) -> None:
        """Note keys that are not known here."""
        for key, value in of.items():
            if key not in known:
                hint = nearest(key, known) or "leave it out"
                self.wrong(value, f"{what} has no key {key!r}", hint)

    def text(self, of: dict[str, Value], key: str, default: str = "") -> str:
        """A key's value if it is a text."""
        value = of.get(key)
        if value is None:
            return default
        if isinstance(value.value, str):
            return value.value
        self.wrong(value, f"{key!r} must be a text", "put it in quotes")
        return default

    def whole(self, of: dict[str, Value], key: str, default: int, most: int) -> int:
        """A key's value if it is a whole number from 1 to `most`."""
        value = of.get(key)
        if value is None:
            return default
        if type(value.value) is int and 1 <= value.value <= most:
            return value.value
        message = f"{key!r} must be a whole number, 1 to {most}"
        self.wrong(value, message, "give a number in this range, without quotes")
        return default

    # -- references ----------------------------------------------------------------------------

    def parts(self, text: str, at: Value) -> tuple[Part, ...]:
        """A text's static parts and slots; unknown names are noted."""
        parts, problems = read_parts(text, at)
        self.problems += problems
        for part in parts:
            if isinstance(part, Slot) and part.name not in self.names:
                hint = nearest(part.name, self.names) or "name an input or a node"
                self.wrong(at, f"{{{{{part.name}}}}} refers to nothing", hint)
        return parts

    def bound(self, parts: tuple[Part, ...]) -> Args:
        """What fills the slots of a text: the values they name."""
        names = dict.fromkeys(p.name for p in parts if isinstance(p, Slot))
        return tuple((n, Ref(n) if n in self.names else Lit(None)) for n in names)

    def arg(self, written: Value) -> Arg:
        """An argument: one reference passes the value itself, other texts are filled."""
        match written.value:
            case str(text):
                parts = self.parts(text, written)
                slot = lone(parts)
                if slot is not None:
                    return self._value_of(slot, written)
                if any(isinstance(p, Slot) for p in parts):
                    return Fill(Text("user", parts), self.bound(parts))
                return Lit("".join(map(str, parts)))
            case list(items):
                args = tuple(self.arg(item) for item in items)
                known = [a.value for a in args if isinstance(a, Lit)]
                return Lit(known) if len(known) == len(args) else Seq(args)
            case dict(fields):
                pairs = tuple((key, self.arg(item)) for key, item in fields.items())
                plain = {key: a.value for key, a in pairs if isinstance(a, Lit)}
                return Lit(plain) if len(plain) == len(pairs) else Rec(pairs)
        return Lit(written.value)

    def _value_of(self, slot: Slot, at: Value) -> Arg:
        if slot.name not in self.names:
            return Lit(None)
        if not slot.path:
            return Ref(slot.name)
        id = slot.name + path_text(slot.path)
        if id not in self.nodes:
            kind = type_of(Ref(slot.name), self.nodes)
            try:
                for step in slot.path:
                    kind = field_type(kind, step)
            except KeyError:
                kind = Any  # a problem that `check` reports
            self.nodes[id] = Project(
                id=id, of=Ref(slot.name), path=slot.path, type=kind, source=at.source
            )
        return Ref(id)
