"""The timeline of a report: what the models did over time, and every task on its lane."""

from __future__ import annotations

import json
from collections import Counter

from ..trace import LOAD
from .charts import COLOURS, activity, pages, requests, short_time
from .facts import Facts
from .markup import e, section
from .tracks import Tracks

LANES = 96
"""Lanes of a track that are drawn."""
MODELS = 8
"""Models, on every worker, whose counters are drawn."""
NAMES = 48
"""Nodes in the legend."""
_HINT = "Hover for a task and its row; wheel to zoom, drag to move, double-click for all."


def timeline(facts: Facts) -> str:
    tracks, names = facts.tracks, list(facts.nodes)
    names += [LOAD] * any(t.node == LOAD for t in tracks.tasks)
    embedded = _embedded(tracks, names)
    if not tracks.tasks:
        return embedded
    legend = "".join(
        f'<span><i class="dot c{i % COLOURS}"></i>{e(name)}</span>'
        for i, name in enumerate(names[:NAMES])
    )
    if len(names) > NAMES:
        legend += f"<span>and {len(names) - NAMES:,} further nodes</span>"
    body = (
        _levels(tracks)
        + "<h3>Tasks under way, by node</h3>"
        + activity([t for t in tracks.tasks if t.node in facts.nodes], names)
        + f'<div class="legend">{legend}</div><h3>Tasks on lanes</h3>'
        f'<canvas id="timeline"></canvas><p id="told">{_HINT}</p>{_left_out(tracks)}'
    )
    return section("Timeline", body, _note(facts)) + embedded


def _note(facts: Facts) -> str:
    tracks, merged = facts.tracks, facts.total("merged")
    count = sum(task.node != LOAD for task in tracks.tasks)
    note = f"{count:,} tasks"
    if tracks.dropped:
        every = f", those of one row in {tracks.rows_shown:,}" if tracks.rows_shown > 1 else ""
        note = f"{count:,} of {count + tracks.dropped:,} tasks{every}"
    return note + (f"; {merged:,} merged calls took none" if merged else "")


def _levels(tracks: Tracks) -> str:
    """KV pages and requests of every model over the whole run."""
    parts = []
    for name, levels in list(tracks.levels.items())[:MODELS]:
        apart = tracks.end / len(levels)
        parts.append(
            f"<h3>{e(name)}: KV pages <small>{_key('used', 'used by requests')}"
            f"{_key('kept', 'kept for prompts to come')}the rest is free; "
            f"{len(levels):,} samples, one in {short_time(apart)}</small></h3>"
            + pages(levels, tracks.end)
            + f"<h3>{e(name)}: requests <small>{_key('running', 'running')}"
            f"{_key('waits', 'waiting')}</small></h3>" + requests(levels, tracks.end)
        )
    if len(tracks.levels) > MODELS:
        parts.append(f"<p>{len(tracks.levels) - MODELS} further models are in trace.json.</p>")
    return "".join(parts)


def _key(shade: str, text: str) -> str:
    return f'<span><i class="dot {shade}"></i>{text}</span> '


def _left_out(tracks: Tracks) -> str:
    """What the lanes do not show, for want of tasks or of room."""
    beyond = Counter(tracks.names[t.track] for t in tracks.tasks if t.lane >= LANES)
    told = ", ".join(f"{n:,} of {name}" for name, n in beyond.items())
    busy = {t.track for t in tracks.tasks}
    idle = ", ".join(name for i, name in enumerate(tracks.names) if i not in busy)
    lines = [f"No tasks were on {idle}."] if idle else []
    if told:
        what = f"Tasks on lanes beyond the first {LANES} are not drawn ({told})"
        lines.append(f"{what}; trace.json has them.")
    return "".join(f'<p class="tools">{e(line)}</p>' for line in lines)


def _embedded(tracks: Tracks, names: list[str]) -> str:
    """Tracks and spans for the script: [node, track, lane, start, seconds, row, ok]."""
    places = {name: i for i, name in enumerate(names)}
    spans = [
        [places[t.node], t.track, t.lane, round(t.start, 6), round(t.seconds, 6),
         str(t.row)[:60], t.ok]
        for t in tracks.tasks if t.node in places and t.lane < LANES
    ]  # fmt: skip
    # "<" never stands in the data, so no text from outside can end the script element.
    given = {"nodes": names, "tracks": tracks.names, "spans": spans}
    data = json.dumps(given).replace("<", "\\u003c")
    return f'<script type="application/json" id="spans">{data}</script>'
