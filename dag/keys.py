"""Keys of values and types: two values with one key are the same to every operator.

Stricter than Python's `==`, for which `1`, `1.0` and `True` are one: prompts show them differently.
A value of a kind that is not understood has no key, and what has no key is never merged.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from pydantic import BaseModel

MAX_DEPTH = 32


class Unkeyed(Exception):
    """A value without a key."""


def value_key(value: Any, depth: int = 0) -> Hashable:
    """The key of a value; raises Unkeyed when there is none."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind in (int, bool, bytes, type(None)):
        return (kind, value)
    if kind is float:
        return (kind, repr(value))  # -0.0 is not 0.0 in a prompt, and nan is nan
    if depth > MAX_DEPTH:
        raise Unkeyed(f"a value nested over {MAX_DEPTH} deep")
    if kind in (list, tuple):
        return (kind, tuple([value_key(v, depth + 1) for v in value]))
    if kind is dict:
        # The order of keys counts: it shows in prompts.
        pairs = [(value_key(k, depth + 1), value_key(v, depth + 1)) for k, v in value.items()]
        return (kind, tuple(pairs))
    if isinstance(value, BaseModel):
        return (kind, *(value_key(held, depth + 1) for held in _held(value)))
    raise Unkeyed(f"a value of type {kind.__name__}")


def _held(model: BaseModel) -> Iterator[Any]:
    """All that a model holds: not what iterating over it gives, which its class may say. Which of
    its fields were given counts: `exclude_unset` shows it."""
    try:
        yield sorted(model.__pydantic_fields_set__)
        yield from (vars(model), model.__pydantic_extra__, model.__pydantic_private__)
    except AttributeError as error:
        raise Unkeyed("a model that has not been made whole") from error


def type_key(kind: Any) -> Hashable:
    """A type as part of a key: equal annotations are one, whatever else they hold."""
    try:
        hash(kind)
    except TypeError:
        return ("type", id(kind))
    return kind  # type: ignore[no-any-return]
