"""What callers hand to an engine, rows and prompts, brought into one form or refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..dag.errors import ConfigError, InputError, PlaitError, nearest
from ..dag.identity import row_id
from ..dag.nodes import Workflow
from .row import Item, RowIn


def rows_of(rows: Iterable[Any]) -> Iterable[RowIn]:
    """The rows, what is no row as the error of its own. A list stays one, since only a list can be
    planned; anything else is read as rows are needed.

    Raises InputError at once when they are no rows at all, such as one row without its list, or
    when two rows of a list have one id. Ids of rows that come one by one are not kept.
    """
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        message = f"rows are a list of mappings from columns to values, not {_kind(rows)}"
        raise InputError(f"{message}: give [{{...}}, ...]")
    return _distinct([_row(row) for row in rows]) if isinstance(rows, list) else map(_row, rows)


def all_rows(rows: Iterable[Any]) -> list[RowIn]:
    """The rows as a list, whatever they come in; raises as `rows_of` does."""
    found = rows_of(rows)
    return found if isinstance(found, list) else _distinct(list(found))


def _distinct(rows: list[RowIn]) -> list[RowIn]:
    """The rows; raises InputError when two have one id, since results are told apart by it."""
    seen: dict[str | int, int] = {}
    for place, row in enumerate(rows):
        if isinstance(row, Item):
            id: str | int = row.id
        else:
            id = place if isinstance(row, PlaitError) else row_id(row, place)
        first = seen.setdefault(id, place)
        if first != place:
            message = f"rows {first} and {place} (counted from 0) have one id, {id!r}"
            raise InputError(f"{message}: give every row an id of its own, or none any")
    return rows


def _row(row: Any) -> RowIn:
    if isinstance(row, Mapping | PlaitError | Item):
        return row
    return InputError(f"a row is a mapping from columns to values, not {_kind(row)}")


def known_inputs(workflow: Workflow, given: Iterable[str]) -> None:
    """Raise InputError for an input that the workflow has not. A row may have further columns;
    what is written out in a call was meant for something."""
    names = [node.id for node in workflow.inputs]
    for name in given:
        if name not in names:
            hint = nearest(name, names) or "it has none"
            raise InputError(f"{workflow.name!r} has no input {name!r}: {hint}")


def prompts_of(prompts: Any) -> list[str | list[int]]:
    """One prompt or several, texts or token ids, as a list of prompts.

    Raises ConfigError for anything else.
    """
    if isinstance(prompts, str):
        return [prompts]
    items = _listed(prompts)
    if items and all(isinstance(item, int) for item in items):
        return [items]
    return [item if isinstance(item, str) else _token_ids(item) for item in items]


def _token_ids(prompt: Any) -> list[int]:
    ids = _listed(prompt)
    if not all(isinstance(id, int) for id in ids):
        raise ConfigError("a prompt is a text or a list of token ids, not a list of other things")
    return ids


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Mapping | bytes) or not isinstance(value, Iterable):
        raise ConfigError(f"a prompt is a text or a list of token ids, not {_kind(value)}")
    return list(value)


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__
