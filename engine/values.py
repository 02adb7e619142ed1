"""Values at the edges of a run: rows in, model text as declared types, outputs as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..dag.errors import (
    ConfigError,
    GenerationError,
    InputError,
    OutputError,
    WorkflowError,
    first_line,
)
from ..dag.llm import OPTION_HINT
from ..dag.nodes import Input, LLMCall
from ..dag.sampling import Sampling
from ..dag.source import problem_at
from ..dag.types import type_name
from .generation import Generation

_PLAIN = (str, int, bool, type(None))


@lru_cache(maxsize=4096)
def adapter(kind: Any) -> TypeAdapter[Any]:
    """The pydantic validator of a type. Raises ConfigError when pydantic knows no such type."""
    try:
        return TypeAdapter(kind)
    except Exception as error:
        reason = first_line(error).split(". ")[0]  # what pydantic advises does not fit here
        raise ConfigError(
            f"values of type {type_name(kind)} cannot be checked: {reason}"
        ) from error


def constrain(node: LLMCall) -> Sampling:
    """Sampling settings of a call with the constraint that its declared type asks for."""
    sampling, kind = node.sampling, _item_kind(node)
    if kind in (str, Any) or sampling.constrained:
        return sampling
    texts = _choices(kind)
    if texts is not None:
        try:
            return dataclasses.replace(sampling, choice=texts)
        except ConfigError as error:  # a stop within one of them
            message = f"{node.name!r} returns {type_name(kind)}: {error}"
            raise WorkflowError(problem_at(node.source, message, OPTION_HINT, node.id)) from error
    try:
        return dataclasses.replace(sampling, json_schema=adapter(kind).json_schema())
    except Exception as error:
        message = f"{node.name!r} returns {type_name(kind)}, which has no JSON schema"
        hint = "use a pydantic model, or plain lists, dicts, texts and numbers"
        problem = problem_at(node.source, f"{message}: {first_line(error)}", hint, node.id)
        raise WorkflowError(problem) from error


def decode(node: LLMCall, generations: list[Generation]) -> Any:
    """What the model wrote, as the call's declared type; a list when `n` is over 1.

    Raises GenerationError for JSON cut short by max_tokens, OutputError for text of another type.
    """
    kind = _item_kind(node)
    values = [_decode_one(kind, g) for g in generations]
    return values if node.sampling.n > 1 else values[0]


def _decode_one(kind: Any, generation: Generation) -> Any:
    if kind is str or kind is Any:
        return generation.text
    if _choices(kind) is not None:
        return validate(kind, generation.text, "the model's answer")
    try:
        return adapter(kind).validate_json(generation.text)
    except ValidationError as error:
        if generation.finish_reason == "length":
            used = generation.usage.completion_tokens
            message = f"max_tokens ended the text after {used} tokens, before its JSON was complete"
            raise GenerationError(message) from error
        what = f"the model's text is not {type_name(kind)}"
        raise OutputError(
            f"{what}: {_reason(error)}; it wrote {_quoted(generation.text)}"
        ) from error


def _item_kind(node: LLMCall) -> Any:
    if node.sampling.n == 1:
        return node.type
    items = get_args(node.type)
    return items[0] if items else Any


def _choices(kind: Any) -> tuple[str, ...] | None:
    """The texts of a Literal type, which a model writes as they are, without JSON quotes."""
    if get_origin(kind) is not Literal:
        return None
    texts = get_args(kind)
    return texts if all(isinstance(t, str) for t in texts) else None


def validate(kind: Any, value: Any, what: str) -> Any:
    """The value as the type, converted where pydantic converts; OutputError says what it is."""
    if kind is Any or type(value) is kind:
        return value
    try:
        return adapter(kind).validate_python(value)
    except ValidationError as error:
        raise OutputError(f"{what} is not {type_name(kind)}: {_reason(error)}") from error
    except Exception as error:  # of a validator that came with the type
        told = f"{type(error).__name__}: {first_line(error)}"
        raise OutputError(f"{what} is not {type_name(kind)}: {told}") from error


def read_inputs(inputs: tuple[Input, ...], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's values for a workflow's inputs; raises InputError naming the column."""
    values = {}
    for node in inputs:
        if node.id in row:
            try:
                values[node.id] = validate(node.type, row[node.id], f"column {node.id!r}")
            except OutputError as error:
                raise InputError(str(error)) from error
        elif node.default is not ...:
            values[node.id] = node.default
        else:
            have = ", ".join(map(repr, list(row)[:8])) or "no columns"
            raise InputError(f"column {node.id!r} is missing (the row has {have})")
    return values


def to_json(value: Any) -> Any:
    """A value as plain JSON data; raises OutputError when it cannot be JSON."""
    if type(value) in _PLAIN:
        return value
    try:
        plain = to_jsonable_python(value)
        json.dumps(plain, allow_nan=False)
        return plain
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        kind = type(value).__name__
        raise OutputError(f"a value of type {kind} cannot be JSON: {first_line(error)}") from error


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(p) for p in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _quoted(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "…")
