"""The workflow's DAG with what the plan and the run say of each node."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ...dag.picture import Box, Picture
from ...dag.picture_json import from_json
from ...dag.svg import drawn
from .accounts import Account, accounts
from .charts import short_time
from .facts import Facts
from .markup import arrow, e, section
from .node_table import LEGEND as NODES_LEGEND
from .node_table import node_table
from .whole import whole_table

_LEGEND = (
    "In every box, before the comma what was predicted (→ what is left of it once equal calls are "
    "merged and shared prefixes computed once), behind it what was measured. The bar is a node's "
    "part of all engine seconds."
)
_WIDTH = re.compile(r'<svg [^>]*\bwidth="(\d+)"')
SMALLEST = 0.8
"""How far a wide drawing shrinks before it is scrolled."""
_SHOWN = {"llm", "agent", "tool", "branch", "map", "loop"}
"""Kinds of boxes that a plan has steps for."""


def graph(facts: Facts) -> str:
    """The section with the drawing and the tables."""
    found = accounts(facts)
    image = _image(facts, found)
    if not image and not found:
        return ""
    data = base64.b64encode(image.encode()).decode()
    size = _WIDTH.search(image)
    least = f' style="min-width:{int(size[1]) * SMALLEST:.0f}px"' if size else ""
    # As an image the drawing keeps to itself: none of its style or script reaches the page.
    shown = (
        f'<div class="drawing"><img{least} alt="the workflow as a graph, with the numbers of the '
        f'table" src="data:image/svg+xml;base64,{data}"></div>' if image else ""
    )  # fmt: skip
    drawing, nodes = (f'<p class="tools">{e(text)}</p>' for text in (_LEGEND, NODES_LEGEND))
    table = node_table(found)
    return section(
        "Plan and run",
        whole_table(facts, found) + shown + (drawing if found and shown else "")
        + (f"{table}{nodes}" if table else ""),
    )  # fmt: skip


def _image(facts: Facts, found: Mapping[str, Account]) -> str:
    try:
        shown = from_json(facts.plan["dag"])
    except (KeyError, ValueError):
        return facts.drawing
    engine = sum(a.engine.get("engine_seconds", 0.0) for a in found.values())
    planned = bool(facts.plan.get("steps"))
    return drawn(_with_numbers(shown, found, engine, planned))


def _with_numbers(
    shown: Picture, found: Mapping[str, Account], engine: float, planned: bool
) -> Picture:
    boxes = []
    for box in shown.boxes:
        inside = tuple(_with_numbers(body, found, engine, planned) for body in box.inside)
        boxes.append(_noted(replace(box, inside=inside), found.get(box.name), engine, planned))
    return replace(shown, boxes=tuple(boxes))


def _noted(box: Box, account: Account | None, engine: float, planned: bool) -> Box:
    if account is None:
        gone = planned and box.kind in _SHOWN
        return replace(box, faint=gone, notes=("left out by the plan",) if gone else ())
    seconds = account.engine.get("engine_seconds")
    share = seconds / engine if seconds is not None and engine else None
    return replace(box, notes=tuple(_notes(account)), share=share)


def _notes(account: Account) -> Iterator[str]:
    """Calls, prefill, decode and times of a node, a line each, as far as they are known."""
    if not account.calling:
        return
    made = f"made {account.made:,}" if account.made is not None else "not run"
    most = "at most " if account.branch else ""
    calls = f"{most}{arrow(*account.calls)}" if account.calls is not None else "as values decide"
    yield f"calls {calls}, {made}"
    if account.prefill is not None:
        computed = f", computed {account.computed:,}" if account.computed is not None else ""
        yield f"prefill {arrow(*account.prefill)}{computed}"
    if account.decode is not None or account.written:
        predicted = f"{account.decode:,}" if account.decode is not None else "not predicted"
        written = f", wrote {account.written:,}" if account.written is not None else ""
        yield f"decode {predicted}{written}"
    for what, predicted_seconds, took in (
        ("each", account.each, account.took),
        ("engine", account.engine.get("seconds"), account.engine.get("engine_seconds")),
    ):
        if took is not None:
            told = "not predicted" if predicted_seconds is None else short_time(predicted_seconds)
            yield f"{what} {told}, took {short_time(took)}"
