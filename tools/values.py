"""What crosses a tool's border: arguments in the declared types, results that are JSON.

A result is what its JSON says: it is written out and read back in the declared type, so a run that
is resumed from a journal sees the very values the first run saw, and a tool that keeps and later
changes an object it returned changes nobody's value but its own. Exact scalars skip all of this,
because for them it is the identity.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..dag.errors import OutputError, WorkflowError, first_line, list_names
from ..dag.operators import Parameter, Signature
from ..dag.source import Source, problem_at
from ..dag.types import type_name

_SCALARS = (str, int, float, bool, type(None))
_INT64 = 2**63


class _Schema(GenerateJsonSchema):
    """Titles repeat the names they stand under, and a model pays for each of their tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Arguments:
    """A tool's arguments: their JSON schema, and their values read in the declared types."""

    def __init__(self, tool: str, signature: Signature, source: Source | None) -> None:
        self._tool = tool
        self._parameters = {p.name: p for p in signature.parameters}
        self._exact = {p.name: p.type for p in signature.parameters if p.type in _SCALARS}
        self._adapters = {
            p.name: _adapter(p.type, f"argument {p.name!r} of tool {tool!r}", source)
            for p in signature.parameters
        }
        self._required = frozenset(signature.required)
        self.schema = self._json_schema(source)

    def _json_schema(self, source: Source | None) -> dict[str, Any]:
        inputs = [(name, "validation", adapter) for name, adapter in self._adapters.items()]
        try:
            found, shared = TypeAdapter.json_schemas(inputs, schema_generator=_Schema)  # type: ignore[arg-type]
        except PydanticUserError as error:
            message = f"an argument of tool {self._tool!r} has no JSON schema: {first_line(error)}"
            raise WorkflowError(problem_at(source, message, _JSON_HINT)) from None
        properties = {
            name: {**found[name, "validation"], **_default(p)}
            for name, p in self._parameters.items()
        }
        required = [name for name in properties if name in self._required]
        schema = {"type": "object", "properties": properties, "required": required}
        return {**schema, **shared, "additionalProperties": False}

    def read(self, given: Mapping[str, Any], node: str | None = None) -> dict[str, Any]:
        """Fresh values in the declared types; raises OutputError naming the argument."""
        values = {}
        for name, value in given.items():
            if type(value) is not self._exact.get(name, ...):
                value = self._read(name, value, node)
            values[name] = value
        if not self._required <= values.keys():
            missing = list_names(sorted(self._required - values.keys()))
            raise OutputError(f"tool {self._tool!r} misses argument {missing}", node)
        return values

    def _read(self, name: str, value: Any, node: str | None) -> Any:
        parameter = self._parameters.get(name)
        if parameter is None:
            known = list_names(list(self._parameters)) or "none"
            message = f"tool {self._tool!r} has no argument {name!r}: its arguments are {known}"
            raise OutputError(message, node)
        if value is parameter.default:  # as Python would: a default is taken as it stands
            return value
        try:
            return _fresh(self._adapters[name].validate_python(value))
        except (ValidationError, RecursionError) as error:
            message = f"argument {name!r} of tool {self._tool!r} {_reason(error, parameter.type)}"
            raise OutputError(message, node) from error


class Result:
    """A tool's result: of its declared type, writable as JSON, within its size."""

    def __init__(self, tool: str, returns: Any, limit: int, source: Source | None) -> None:
        self._tool, self._type, self._limit = tool, returns, limit
        self._exact = returns if returns in _SCALARS else None
        self._adapter = _adapter(returns, f"the result of tool {tool!r}", source)

    def check(self, value: Any, node: str | None = None) -> Any:
        """The value as its JSON says it; raises OutputError."""
        kind = type(value)
        if kind is self._exact or (self._type is Any and kind in _SCALARS):
            if kind is str:
                # one character takes at most six bytes of JSON; ASCII has no lone surrogates
                if value.isascii() and 6 * len(value) < self._limit:
                    return value
            elif kind is float:
                if math.isfinite(value):
                    return value
            elif kind is not int or -_INT64 <= value < _INT64:
                return value
        try:
            return self._read_back(self._adapter.validate_python(value), node)
        except ValidationError as error:
            message = f"the result of tool {self._tool!r} {_reason(error, self._type)}"
            raise OutputError(message, node) from error
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
            message = f"the result of tool {self._tool!r} cannot be written as JSON: "
            raise OutputError(message + first_line(error), node) from error

    def _read_back(self, value: Any, node: str | None) -> Any:
        try:
            text = _dumps(value)
        except TypeError:  # there is more than plain JSON in it
            text = self._dumps_objects(value)
        data = text.encode()
        if len(data) > self._limit:
            size = f"{len(data):,} bytes of JSON; at most {self._limit:,} are allowed"
            message = f"the result of tool {self._tool!r} takes {size} (max_output)"
            raise OutputError(message, node)
        if self._type is Any:
            return json.loads(data)
        # by name as well, since aliases are for the outside and were not written
        return self._adapter.validate_json(data, by_alias=True, by_name=True)

    def _dumps_objects(self, value: Any) -> str:
        text = _dumps(self._adapter.dump_python(value, mode="json", warnings="error"))
        if "null" in text:  # pydantic writes NaN as null where the type is not declared
            bare = self._adapter.dump_python(value)
            _dumps(to_jsonable_python(bare, inf_nan_mode="constants"))
        return text


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


_JSON_HINT = "use str, int, float, bool, list, dict, or a pydantic model"


def _adapter(kind: Any, what: str, source: Source | None) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except PydanticUserError:
        message = f"{what} is {type_name(kind)}, which cannot be read from JSON"
        raise WorkflowError(problem_at(source, message, _JSON_HINT)) from None


def _default(parameter: Parameter) -> dict[str, Any]:
    """The default as a JSON schema states it; left out where it is not JSON."""
    if parameter.default is ...:
        return {}
    try:
        return {"default": to_jsonable_python(parameter.default)}
    except (PydanticSerializationError, ValueError):
        return {}


def _fresh(value: Any) -> Any:
    """A copy the tool may change: the values of nodes are shared by every task that reads them."""
    kind = type(value)
    if kind is list:
        return [v if type(v) in _SCALARS else _fresh(v) for v in value]
    if kind is dict:
        return {k: v if type(v) in _SCALARS else _fresh(v) for k, v in value.items()}
    if isinstance(value, BaseModel):
        return value.model_copy(deep=True)
    return value


def _reason(error: ValidationError | RecursionError, wanted: Any) -> str:
    """What a value is instead of what it should be, in one line and without the whole value."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    first = error.errors(include_url=False, include_context=False)[0]
    path = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in first["loc"])
    shown = repr(first["input"]) if isinstance(first["input"], _SCALARS) else ""
    got = f" (it is {shown[:80]})" if shown else f" (it is a {type(first['input']).__name__})"
    return f"is not {type_name(wanted)}: at {path or 'its root'}, {first['msg']}{got}"
