"""Pieces of a report's markup. Whatever comes from outside goes through `e`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

CUT = 4_000
"""Characters of a value that are shown."""


def section(title: str, body: str, note: str = "") -> str:
    small = f"<small>{e(note)}</small>" if note else ""
    return f"<section><h2>{e(title)}{small}</h2>{body}</section>"


def table(head: Sequence[str], rows: Iterable[str], right: Sequence[str] = ()) -> str:
    right = right or head[2:]
    cells = "".join(
        f"<th{' class=n' if name in right else ''}>{e(name)}</th>" for name in head
    )  # fmt: skip
    body = "".join(rows)
    return f'<div class="scroll"><table><tr>{cells}</tr>{body}</table></div>'


def e(value: Any) -> str:
    """Text for HTML: escaped, and without lone surrogates, which UTF-8 cannot say."""
    return escape(str(value).encode("utf-8", "replace").decode())


def text(value: Any) -> str:
    """A value in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def value(given: Any) -> str:
    """A value as a block of text."""
    if isinstance(given, str):
        return cut(given, CUT)
    return cut(json.dumps(given, ensure_ascii=False, indent=2, default=str), CUT)


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def short(number: int) -> str:
    """A count in a few characters: 1,234 or 5.6 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**5, "k")):
        if number >= size:
            return f"{number / (1000 if unit == 'k' else size):.3g} {unit}"
    return f"{number:,}"


def arrow(before: int, after: int) -> str:
    """A count and what is left of it."""
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"
