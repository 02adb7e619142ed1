"""A warning before a run begins: which prompts of its rows the models will refuse.

A look, no more: rows that are long enough to matter, the longest first, and as many of them as take
about a second. What is not seen is refused when its turn comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..dag.errors import first_line
from ..dag.names import named_nodes
from ..dag.nodes import Const, LLMCall, Workflow
from ..dag.numbering import Row
from ..dag.template import Template
from .backends.backend import Backend
from .backends.local import LocalBackend
from .backends.workers import Workers
from .oversized import Oversized, Reader, oversized, room_of
from .planning import contents
from .row import Item, RowIn

log = logging.getLogger("plait")
ROWS = 100_000
"""Batches of more rows are not looked at."""
CHARACTERS = 2_000_000
"""In the prompts that are looked at, about."""
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
    given = contents(rows)
    longest = _longest(workflow, given, min(room_of(model)[0] for model in models.values()))
    found: list[Oversized] = []
    for places in (longest[:FIRST], longest) if longest else ():
        some: list[Row | None] = [None] * len(given)
        for place in places:
            some[place] = given[place]
        found = oversized(workflow, some, models)
        if not found or len(places) == len(longest):
            break
    return [replace(one, row=_id(rows, one)) for one in found]


def _id(rows: Sequence[RowIn], one: Oversized) -> str | int:
    """The identity that the row's result will carry."""
    row = rows[one.place]
    return row.id if isinstance(row, Item) else one.row


def _longest(workflow: Workflow, rows: Sequence[Row | None], room: int) -> list[int]:
    """Places of the rows with enough in them for a prompt of so many characters, the longest first,
    as many as there is time for."""
    nodes = [node for _, node in named_nodes(workflow)]
    templates = [
        n.prompt for n in nodes if isinstance(n, LLMCall) and isinstance(n.prompt, Template)
    ]
    fixed = sum(_size(node.value) for node in nodes if isinstance(node, Const))
    static = max(map(_static, templates), default=0)
    slots = max((len(list(template.slots())) for template in templates), default=0)
    sizes = [fixed + sum(map(_size, row.values())) if row else 0 for row in rows]
    longest = sorted(range(len(rows)), key=sizes.__getitem__, reverse=True)
    found, left = list[int](), CHARACTERS
    for place in longest:
        if left <= 0 or static + slots * sizes[place] < room:
            break
        found.append(place)
        left -= len(templates) * (static + sizes[place])
    return found


def _static(template: Template) -> int:
    """Characters of a template that are not of values."""
    return sum(len(p) for text in template.messages for p in text.parts if isinstance(p, str))


def _size(value: Any) -> int:
    """Characters of a value in a prompt, about."""
    return len(value) if isinstance(value, str) else len(repr(value))


def _loaded(backend: Backend, workflow: Workflow) -> dict[str, Reader]:
    """The models of a workflow that are loaded on any worker."""
    found: dict[str, Reader] = {}
    for worker in backend.workers if isinstance(backend, Workers) else (backend,):
        if isinstance(worker, LocalBackend):
            there = [alias for alias in workflow.models() if worker.has(alias)]
            found |= {alias: llm for alias, llm in worker.shelf().loaded.items() if alias in there}
    return found
