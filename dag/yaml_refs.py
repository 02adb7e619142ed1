"""`{{references}}` in YAML texts. They are the only thing that makes edges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .errors import Problem
from .template import Part, Path, Slot
from .yaml_text import Value

NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_OPEN = re.compile(r"\\\{\{|\{\{")
_REFERENCE = re.compile(rf"\{{\{{\s*({NAME})((?:\.{NAME}|\[-?\d+\])*)\s*\}}\}}")
_STEP = re.compile(rf"\.({NAME})|\[(-?\d+)\]")


def read_parts(text: str, at: Value) -> tuple[tuple[Part, ...], list[Problem]]:
    """Static text and slots of a text, and what in it cannot be read as a reference.

    `\\{{` is two plain braces.
    """
    parts: list[Part] = []
    problems: list[Problem] = []
    plain, place = "", 0
    while found := _OPEN.search(text, place):
        plain += text[place : found.start()]
        if found[0] != "{{":
            plain, place = plain + "{{", found.end()
            continue
        reference = _REFERENCE.match(text, found.start())
        if reference is None:
            problems.append(_unreadable(text[found.start() :], at))
            place = found.end()
            continue
        parts += [plain] if plain else []
        parts.append(Slot(reference[1], _path(reference[2]), "j"))
        plain, place = "", reference.end()
    plain += text[place:]
    return ((*parts, plain) if plain else tuple(parts)), problems


def lone(parts: tuple[Part, ...]) -> Slot | None:
    """The slot of a text that is exactly one reference."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Slot) else None


def mentioned(written: Value) -> Iterator[str]:
    """Names that any text inside a value refers to, readable or not, in order, with repeats."""
    inside: Any = written.value
    if isinstance(inside, str):
        yield from (m[1] for m in _REFERENCE.finditer(inside.replace(r"\{{", "")))
    elif isinstance(inside, list):
        for item in inside:
            yield from mentioned(item)
    elif isinstance(inside, dict):
        for item in inside.values():
            yield from mentioned(item)


def _path(text: str) -> Path:
    return tuple(m[1] if m[1] is not None else int(m[2]) for m in _STEP.finditer(text))


def _unreadable(text: str, at: Value) -> Problem:
    end = text.find("}}")
    shown = text[: end + 2] if 0 <= end < 60 else text[:20] + "…"
    hint = r"a reference is {{name.field[0]}}; write \{{ for two plain braces"
    return at.source.problem(f"{shown} is not a reference", hint)
