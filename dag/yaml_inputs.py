"""Inputs of a YAML workflow: `[topic]`, or `{topic: string, year: {type: integer, default: 1}}`."""

from __future__ import annotations

import re
from typing import Any

from .errors import noting
from .nodes import Input, Node
from .types import fits, type_name
from .yaml_refs import NAME
from .yaml_scope import Scope
from .yaml_text import Value
from .yaml_types import read_type


def read_inputs(written: Value | None, scope: Scope) -> dict[str, Node]:
    """Input nodes by name; what is wrong is noted in the scope."""
    if written is None:
        return {}
    if isinstance(written.value, dict):
        pairs = list(written.value.items())
    elif isinstance(written.value, list):
        pairs = [(str(item.value), Value("any", item.source)) for item in written.value]
    else:
        message = "'inputs' must be a list of names, or a mapping of names to types"
        scope.wrong(written, message, "write [topic] or {topic: string}")
        return {}
    inputs: dict[str, Node] = {}
    for name, value in pairs:
        check_name(name, value, scope)
        if name in inputs:
            scope.wrong(value, f"the input {name!r} is given twice", "rename or delete one")
        inputs[name] = _input(name, value, scope)
    return inputs


def _input(name: str, written: Value, scope: Scope) -> Input:
    fields = written.value if isinstance(written.value, dict) else {}
    long = "type" in fields and set(fields) <= {"type", "default"}
    kind: Any = Any
    default: Any = ...
    with noting(scope.problems):
        kind = read_type(fields["type"] if long else written)
    if long and "default" in fields:
        default = plain(fields["default"])
        if not fits(type(default), kind):
            message = f"the default of {name!r} is {type_name(type(default))}, not"
            hint = "change the default or the type"
            scope.wrong(fields["default"], f"{message} {type_name(kind)}", hint)
    return Input(id=name, type=kind, default=default, source=written.source)


def check_name(name: str, at: Value, scope: Scope) -> None:
    """Names must be such that `{{name}}` can be read."""
    if not re.fullmatch(NAME, name):
        scope.wrong(at, f"{name!r} is not a name", "use letters, digits, _ and -")


def plain(written: Value) -> Any:
    """The value without its lines."""
    if isinstance(written.value, list):
        return [plain(item) for item in written.value]
    if isinstance(written.value, dict):
        return {key: plain(item) for key, item in written.value.items()}
    return written.value
