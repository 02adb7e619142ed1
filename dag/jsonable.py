"""Which types and values certainly have no JSON form. In doubt, a type has one."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import json
import types
import typing
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import is_typeddict

from .errors import first_line
from .types import type_name

_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type)


def cannot_be_json(kind: Any) -> str | None:
    """Why no value of this type can be written as JSON; None when some may."""
    origin = get_origin(kind) or kind
    if origin is typing.Annotated:
        return cannot_be_json(get_args(kind)[0])
    if origin is collections.abc.Callable:
        return "a function is code"
    if origin in _CODE:
        return f"{type_name(kind)} is code"
    if origin in (typing.Union, types.UnionType):
        reasons = [cannot_be_json(k) for k in get_args(kind)]
        return reasons[0] if all(reasons) else None
    if origin in (list, set, frozenset, tuple, dict, collections.abc.Sequence):
        parts = get_args(kind)[1:] if origin is dict else get_args(kind)
        found = (cannot_be_json(k) for k in parts if k is not ...)
        return next((reason for reason in found if reason), None)
    if isinstance(origin, type) and _is_plain_class(origin):
        return f"{type_name(kind)} is a class that says nothing of its fields"
    return None


def value_cannot_be_json(value: Any) -> str | None:
    """Why this value cannot be written as JSON; None when it can."""
    try:
        json.dumps(to_jsonable_python(value), allow_nan=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        return f"a value of type {type(value).__name__}: {first_line(error)}"
    return None


def _is_plain_class(kind: type) -> bool:
    """A class whose objects pydantic cannot read apart, and no subclass of it can say more."""
    if kind is object or kind.__subclasses__() or inspect.isabstract(kind):
        return False
    if issubclass(kind, BaseModel | enum.Enum) or dataclasses.is_dataclass(kind):
        return False
    if getattr(kind, "_is_protocol", False) or is_typeddict(kind):
        return False
    if issubclass(kind, str | int | float | bytes | list | tuple | dict | set | frozenset):
        return False
    try:
        TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        return True
    except Exception:
        return False  # another complaint than "no such type": not certain
    return False
