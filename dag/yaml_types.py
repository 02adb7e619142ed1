"""Types as YAML writes them: `string`, `[string]`, `{name: string, year: integer}`."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from .errors import Problem, WorkflowError
from .yaml_text import Value

TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": float, "boolean": bool, "object": dict[str, Any],
    "any": Any,
}  # fmt: skip


def read_type(written: Value, name: str) -> Any:
    """The Python type of a type written in YAML; objects become dicts with typed keys.

    `name` names objects, in error messages and JSON schemas. Raises WorkflowError.
    """
    match written.value:
        case str(word) if word in TYPES:
            return TYPES[word]
        case [item]:
            return list[read_type(item, f"{name}_item")]  # type: ignore[misc]
        case dict(fields) if fields:
            kinds: dict[str, Any] = {}
            problems: list[Problem] = []
            for field, kind in fields.items():
                try:
                    kinds[field] = read_type(kind, f"{name}_{field}")
                except WorkflowError as error:
                    problems += error.problems
            if problems:
                raise WorkflowError(*problems)
            return TypedDict(name, kinds)  # type: ignore[operator]
    shown = written.value if isinstance(written.value, str) else "this"
    hint = f"write {', '.join(TYPES)}, [type] for a list, or {{field: type}} for an object"
    raise WorkflowError(written.source.problem(f"{shown} is not a type", hint))
