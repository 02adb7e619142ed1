"""Types as YAML writes them: `string`, `[string]`, `{name: string, year: integer}`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from typing_extensions import TypedDict

from .errors import Problem, WorkflowError
from .yaml_text import Value

TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "object": dict[str, Any],
    "any": Any,
}  # fmt: skip


def read_type(written: Value) -> Any:
    """The Python type of a type written in YAML; objects become dicts with typed keys.

    What is written the same is the same type, wherever it stands. Raises WorkflowError.
    """
    match written.value:
        case str(word) if word in TYPES:
            return TYPES[word]
        case [item]:
            return list[read_type(item)]  # type: ignore[misc]
        case dict(fields) if fields:
            kinds: dict[str, Any] = {}
            problems: list[Problem] = []
            for field, kind in fields.items():
                try:
                    kinds[field] = read_type(kind)
                except WorkflowError as error:
                    problems += error.problems
            if problems:
                raise WorkflowError(*problems)
            return _object(tuple(kinds.items()))
    shown = written.value if isinstance(written.value, str) else "this"
    hint = f"write {', '.join(TYPES)}, [type] for a list, or {{field: type}} for an object"
    raise WorkflowError(written.source.problem(f"{shown} is not a type", hint))


@lru_cache(maxsize=1024)
def _object(fields: tuple[tuple[str, Any], ...]) -> Any:
    """One type for all objects of these fields in this order, which is that of the JSON a model
    writes: calls that ask for it are equal. So its name, which errors and JSON schemas show, is
    nobody's own."""
    return TypedDict("object", dict(fields))  # type: ignore[operator]
