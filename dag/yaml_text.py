"""YAML text as values that know their line. Safe: no Python objects, bounded size, depth, aliases.

Only `true` and `false` are booleans and dates stay texts, so that `choice: [yes, no]` means what
it says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import WorkflowError, first_line
from .source import Source

_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 50_000
"""Values in a file once its aliases are written out."""


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar, a list of values, or a dict of values by name, and where it stands."""

    value: Any
    source: Source


@dataclass(frozen=True, slots=True)
class Twice:
    """A key given a second time in the same mapping."""

    key: str
    source: Source


def read_text(text: str, file: str) -> tuple[Value, list[Twice]]:
    """The document in a text, and the keys that stand twice in it.

    Raises WorkflowError when it is not YAML, is over a bound, or holds several documents.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        message = f"the file is over {MAX_BYTES >> 20} MiB"
        raise WorkflowError(Source(file, 1).problem(message, "move its data into rows or a tool"))
    try:
        root = _Loader(text, file).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"this is not YAML: {error.problem or error.context}"
        hint = "quote texts that hold {{...}} or ': ', close brackets, indent with spaces"
        line = mark.line + 1 if mark else 1
        raise WorkflowError(Source(file, line).problem(message, hint)) from None
    except yaml.YAMLError as error:
        message = f"this is not YAML: {first_line(error)}"
        raise WorkflowError(Source(file, 1).problem(message, "delete this character")) from None
    if root is None:
        raise WorkflowError(
            Source(file, 1).problem("the file is empty", "write nodes: and output:")
        )
    reader = _Reader(file)
    return reader.read(root, ()), reader.twice


class _Loader(yaml.SafeLoader):
    """Composes nodes, refusing deep nesting."""

    yaml_implicit_resolvers = {}  # every scalar stays a text; `_plain` reads those not quoted

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file, self.depth = file, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            message = f"values are nested over {MAX_DEPTH} deep"
            hint = "close brackets, or move deep data into rows or a tool"
            raise WorkflowError(Source(self.file, line).problem(message, hint))
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _plain(text: str) -> Any:
    """What a scalar without quotes means."""
    words = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if _INTEGER.fullmatch(text) and len(text) < 40:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


class _Reader:
    """Turns composed nodes into values, counting what aliases unfold to."""

    def __init__(self, file: str) -> None:
        self.file, self.count = file, 0
        self.twice: list[Twice] = []

    def read(self, node: yaml.Node, above: tuple[yaml.Node, ...]) -> Value:
        source = Source(self.file, node.start_mark.line + 1)
        self.count += 1
        if self.count > MAX_VALUES:
            message = f"the file holds over {MAX_VALUES} values once its aliases are written out"
            raise WorkflowError(source.problem(message, "use fewer aliases"))
        if node.tag not in _TAGS:
            raise WorkflowError(source.problem(f"the tag {node.tag} is not read", "leave it out"))
        if any(node is outer for outer in above):
            hint = "write out what is meant"
            raise WorkflowError(source.problem("an alias stands inside of what it names", hint))
        inside = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            return Value([self.read(item, inside) for item in node.value], source)
        if isinstance(node, yaml.MappingNode):
            return Value(self._mapping(node, inside), source)
        quoted = not isinstance(node, yaml.ScalarNode) or node.style is not None
        return Value(node.value if quoted else _plain(node.value), source)

    def _mapping(self, node: yaml.MappingNode, above: tuple[yaml.Node, ...]) -> dict[str, Value]:
        out: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, value in node.value:
            source = Source(self.file, key.start_mark.line + 1)
            if not isinstance(key, yaml.ScalarNode):
                hint = 'write references in quotes: "{{name}}"'
                raise WorkflowError(source.problem("a key is a mapping or a list", hint))
            read = self.read(value, above).value
            if key.value == "<<" and isinstance(read, dict):
                merged |= read
                continue
            if key.value in out:
                self.twice.append(Twice(key.value, source))
            out[key.value] = Value(read, source)
        return merged | out
