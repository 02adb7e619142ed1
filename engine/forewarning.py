"""A warning before a run begins: which prompts of its rows the models will refuse.

A look, no more: rows that are long enough to matter, the longest first, and as many of them as take
about a second. What is not seen is refused when its turn comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from ..dag.errors import first_line
from ..dag.names import named_nodes
from ..dag.nodes import Const, LLMCall, Workflow
from ..dag.numbering import Row
from ..dag.template import Template
from .backends.backend import Backend
from .backends.local import LocalBackend
from .backends.workers import Workers
from .oversized import BYTES, Oversized, Reader, Search, room_of
from .planning import contents
from .row import Item, RowIn

log = logging.getLogger("plait")
ROWS = 100_000
"""Batches of more rows are not looked at."""
CHARACTERS = 2_000_000
"""In the prompts that are looked at, about; so many take a second."""
FIRST = 16
"""Rows that are looked at first; where all their prompts fit, no others are."""
SHOWN = 3
"""Calls that are named."""


async def forewarn(workflow: Workflow, rows: Sequence[RowIn], backend: Backend) -> None:
    """Say in the log which prompts are too long for the models that are loaded, if any are. It is
    advice: what cannot be looked at fails no run."""
    if len(rows) > ROWS:
        return
    try:
        models = _loaded(backend, workflow)
        found = await asyncio.to_thread(_found, workflow, rows, models) if models else []
    except Exception as error:
        log.warning("prompts were not measured before the run: %s", first_line(error))
        return
    if found:
        more = f"; and prompts of {len(found) - SHOWN} further calls" if found[SHOWN:] else ""
        log.warning("%s%s", "; ".join(map(str, found[:SHOWN])), more)


def _found(
    workflow: Workflow, rows: Sequence[RowIn], models: Mapping[str, Reader]
) -> list[Oversized]:
    given, search = contents(rows), Search(workflow, models, CHARACTERS)
    room = min(room_of(model)[0] for model in models.values())
    for number, (place, row) in enumerate(_longest(workflow, given, room)):
        if search.over or (number == FIRST and not search.found):
            break
        search.look(place, row)
    return [replace(one, row=_id(rows, one)) for one in search.found]


def _id(rows: Sequence[RowIn], one: Oversized) -> str | int:
    """The identity that the row's result will carry."""
    row = rows[one.place]
    return row.id if isinstance(row, Item) else one.row


def _longest(workflow: Workflow, rows: Sequence[Row | None], room: int) -> list[tuple[int, Row]]:
    """The rows with enough in them for a prompt of so many characters, each with its place, the
    longest first."""
    nodes = [node for _, node in named_nodes(workflow)]
    templates = [
        n.prompt for n in nodes if isinstance(n, LLMCall) and isinstance(n.prompt, Template)
    ]
    fixed = sum(_size(node.value) for node in nodes if isinstance(node, Const))
    static = max(map(_static, templates), default=0)
    slots = max((len(list(template.slots())) for template in templates), default=0)
    sizes = {
        place: fixed + sum(map(_size, row.values()))
        for place, row in enumerate(rows) if row is not None
    }  # fmt: skip
    longest = sorted(sizes, key=sizes.__getitem__, reverse=True)
    enough = takewhile(lambda place: BYTES * (static + slots * sizes[place]) >= room, longest)
    return [(place, row) for place in enough if (row := rows[place]) is not None]


def _static(template: Template) -> int:
    """Characters of a template that are not of values."""
    return sum(len(p) for text in template.messages for p in text.parts if isinstance(p, str))


def _size(value: Any) -> int:
    """Characters of a value in a prompt, about."""
    try:
        return len(value) if isinstance(value, str) else len(repr(value))
    except Exception:  # a value's own code, or a number too long to write
        return 0


def _loaded(backend: Backend, workflow: Workflow) -> dict[str, Reader]:
    """The models of a workflow that are loaded on any worker."""
    found: dict[str, Reader] = {}
    for worker in backend.workers if isinstance(backend, Workers) else (backend,):
        if isinstance(worker, LocalBackend):
            there = [alias for alias in workflow.models() if worker.has(alias)]
            found |= {alias: llm for alias, llm in worker.shelf().loaded.items() if alias in there}
    return found
