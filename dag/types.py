"""Types on edges: can a value of one annotation be given where another is wanted?

The answer is False only when it certainly cannot: a false alarm would stop a workflow that works,
while a missed mismatch still becomes a typed error of the row it happens in.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import is_typeddict

from .errors import WorkflowError, first_line
from .source import of_function, problem_at

_NUMBERS = {bool: 0, int: 1, float: 2}
_ORIGINS: dict[Any, Any] = {Sequence: list, Mapping: dict, tuple: list, set: list, frozenset: list}


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations of a function; raises WorkflowError when a name in them is unknown."""
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception as error:
        message = f"the annotations of {fn.__name__!r} cannot be read: {first_line(error)}"
        hint = "define the types it names at module level, above the function"
        raise WorkflowError(problem_at(of_function(fn), message, hint)) from error


def type_name(kind: Any) -> str:
    """An annotation as the user would write it."""
    if kind is Any:
        return "Any"
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("NoneType", "None")


def fits(given: Any, wanted: Any) -> bool:
    """Whether a value of type `given` may be passed where `wanted` is expected."""
    given, wanted = plain_type(given), plain_type(wanted)
    if given is wanted or Any in (given, wanted) or object is wanted:
        return True
    if is_union(given):
        return any(fits(g, wanted) for g in get_args(given))
    if is_union(wanted):
        return any(fits(given, w) for w in get_args(wanted))
    if get_origin(given) is Literal:
        return any(fits(type(value), wanted) for value in get_args(given))
    if get_origin(wanted) is Literal:
        return any(fits(given, type(value)) for value in get_args(wanted))
    return _fit_classes(given, wanted)


def item_type(kind: Any) -> Any:
    """Type of the items of a list-like annotation; Any when it does not say; None if no list."""
    kind = plain_type(kind)
    if kind is Any:
        return Any
    base = _base(kind)
    if base is not list:
        return None
    args = [a for a in get_args(kind) if a is not ...]
    return args[0] if len(args) == 1 else Any


def plain_type(kind: Any) -> Any:
    """Strip Annotated, NewType and None spelling; type variables and strings become Any."""
    if get_origin(kind) is typing.Annotated:
        return plain_type(get_args(kind)[0])
    if isinstance(kind, typing.NewType):
        return plain_type(kind.__supertype__)
    if isinstance(kind, typing.TypeVar | str):
        return Any
    return type(None) if kind is None else kind


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _base(kind: Any) -> Any:
    origin = get_origin(kind) or kind
    return dict if is_typeddict(origin) else _ORIGINS.get(origin, origin)


def _fit_classes(given: Any, wanted: Any) -> bool:
    have, want = _base(given), _base(wanted)
    if not (isinstance(have, type) and isinstance(want, type)):
        return True
    if have in _NUMBERS and want in _NUMBERS:
        return _NUMBERS[have] <= _NUMBERS[want]
    if have is dict and issubclass(want, BaseModel):
        return True
    if not issubclass(have, want):
        return False
    inner = zip(get_args(given), get_args(wanted), strict=False)
    return all(fits(g, w) for g, w in inner if ... not in (g, w))


def field_type(kind: Any, step: str | int) -> Any:
    """Type of a field, key or item of a value; Any when unknown.

    Raises KeyError when values of this type certainly have no such part.
    """
    kind = plain_type(kind)
    base, args = _base(kind), get_args(kind)
    if isinstance(step, int):
        if base is list and args:
            rest = [a for a in args if a is not ...]
            return rest[min(step, len(rest) - 1)] if step >= 0 else Any
        if base is str:
            return str
        if base in (int, float, bool) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
            raise KeyError(step)
        return Any
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if step in kind.model_fields:
            return kind.model_fields[step].annotation
        if isinstance(getattr(kind, step, None), property):
            return Any
        raise KeyError(step)
    if is_typeddict(kind):
        return hints_of(kind)[step]
    if base is dict:
        return args[1] if len(args) == 2 else Any
    if base in (str, int, float, bool, list):
        raise KeyError(step)
    return Any
