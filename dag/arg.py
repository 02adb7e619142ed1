"""An argument: what a node is given, and with it the edges of the DAG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from .errors import OutputError, first_line
from .template import Text


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of another node."""

    id: str


@dataclass(frozen=True, slots=True)
class Lit:
    """A value known when the workflow is compiled."""

    value: Any
    own: bool = False
    """Whoever reads it gets a copy of its own, as of what a tool gives to each row."""


@dataclass(frozen=True, slots=True)
class Seq:
    """A list or tuple with other arguments inside."""

    items: tuple[Arg, ...]
    kind: type = list


@dataclass(frozen=True, slots=True)
class Rec:
    """A dict with other arguments as values."""

    items: tuple[tuple[str, Arg], ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """A text put together from other arguments: `news about {{topic}}` in YAML."""

    text: Text
    bound: Args


Arg = Ref | Lit | Seq | Rec | Fill
Args = tuple[tuple[str, Arg], ...]
"""Arguments by name, in the order of the signature."""


def leaves(arg: Arg) -> Iterator[Ref | Lit]:
    """What an argument is made of, its containers taken apart."""
    match arg:
        case Ref() | Lit():
            yield arg
        case Seq(items):
            for item in items:
                yield from leaves(item)
        case Rec(pairs) | Fill(_, pairs):
            for _, item in pairs:
                yield from leaves(item)


def refs(arg: Arg) -> Iterator[str]:
    """Ids of the nodes an argument needs."""
    return (leaf.id for leaf in leaves(arg) if isinstance(leaf, Ref))


def literals(arg: Arg) -> Iterator[Any]:
    """Values in an argument that are known when the workflow is compiled."""
    return (leaf.value for leaf in leaves(arg) if isinstance(leaf, Lit))


def resolve(arg: Arg, values: Mapping[str, Any]) -> Any:
    """The argument's value, given the values of the nodes it needs."""
    match arg:
        case Ref(id):
            return values[id]
        case Lit(value):
            return deepcopy(value) if arg.own else value
        case Seq(items, kind):
            return kind(resolve(item, values) for item in items)
        case Rec(pairs):
            return {key: resolve(item, values) for key, item in pairs}
        case Fill(text, bound):
            try:
                return text.render({name: resolve(item, values) for name, item in bound})
            except (ValueError, TypeError) as error:
                message = f"a value cannot be put into a text: {first_line(error)}"
                raise OutputError(message) from error
