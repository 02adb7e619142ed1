"""Calls that need no row: of pure tools, with arguments that are known before anything runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .arg import resolve
from .demand import certain
from .errors import in_short
from .keys import value_key
from .names import counted_name
from .nodes import Loop, Map, ToolCall, Workflow


@dataclass(frozen=True, slots=True)
class KnownCall:
    """One such call."""

    node: ToolCall
    arguments: Mapping[str, Any]
    key: Hashable
    """Calls with one key are one call."""
    name: str
    """Under which a run counts the node."""
    part: int
    """Place of its workflow in the plan."""


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was made while planning."""

    call: KnownCall
    value: Any
    start: float
    """By the clock of the process, in seconds."""
    seconds: float

    def __str__(self) -> str:
        given = ", ".join(f"{name}={in_short(v)}" for name, v in self.call.arguments.items())
        return f"{self.call.name}({given}) = {in_short(self.value)}"

    def as_dict(self) -> dict[str, Any]:
        """In JSON values, long ones cut."""
        given = {name: in_short(value) for name, value in self.call.arguments.items()}
        return {
            "node": self.call.name, "tool": self.call.node.tool.name, "arguments": given,
            "value": in_short(self.value), "seconds": self.seconds,
        }  # fmt: skip


Known = Mapping[Hashable, Made]
"""Calls that have been made, by key."""
NOTHING: Known = MappingProxyType({})


def arguments_of(node: ToolCall) -> tuple[Hashable, dict[str, Any]] | None:
    """The key of a call that needs no row, and what it is given; None when rows have a say."""
    if node.tool.effect != "pure" or node.needs():
        return None
    try:
        given = {name: resolve(arg, {}) for name, arg in node.bound}
        return (id(node.tool.run), value_key(given)), given
    except Exception:  # no key, or a text that cannot be put together: the rows will say so
        return None


def known_calls(workflow: Workflow, part: int, way: tuple[str, ...] = ()) -> Iterator[KnownCall]:
    """The calls in a workflow that need no row. Not those that only a side of a branch asks for,
    which may be in vain."""
    sure = certain(workflow)
    for node in workflow.nodes.values():
        if node.id not in sure:
            continue
        if isinstance(node, ToolCall):
            found = arguments_of(node)
            if found is not None:
                key, given = found
                yield KnownCall(node, given, key, counted_name(way, node.id), part)
        if isinstance(node, Map | Loop):
            yield from known_calls(node.body, part, (*way, node.id))
        if isinstance(node, Loop) and node.until is not None:
            yield from known_calls(node.until, part, (*way, node.id, "until"))
