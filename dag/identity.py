"""Which row is which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def row_id(row: Mapping[str, Any], index: int) -> str | int:
    """A row's identity: its `id` if that is a number or a text with something in it, else its
    position (an empty cell of a CSV file names no row)."""
    id = row.get("id", index)
    usable = isinstance(id, str | int) and not isinstance(id, bool) and id != ""
    return id if usable else index
