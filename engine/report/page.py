"""A report as one HTML page: no network, no library, everything from outside escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from .charts import COLOURS, histogram, short_time
from .facts import Facts
from .graph import graph
from .markup import cut, e, section, short, table, text, value
from .timeline import timeline

_PILLS = {
    "complete": ("good", "complete"), "interrupted": ("warn", "interrupted"),
    "max_errors": ("bad", "stopped: too many errors"), "running": ("warn", "unfinished"),
}  # fmt: skip


def page(facts: Facts) -> str:
    name = e(facts.config.get("workflow", "run"))
    style, script = (files(__package__).joinpath(f).read_text("utf-8")
                     for f in ("page.css", "timeline.js"))  # fmt: skip
    parts = [
        _head(facts), _tiles(facts), _errors(facts), graph(facts), _nodes(facts),
        timeline(facts), _rows(facts), _samples(facts), _about(facts),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: run report</title>\n<style>\n{style}</style>\n<body>\n"
        + "\n".join(filter(None, parts))
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _head(facts: Facts) -> str:
    shade, said = _PILLS.get(facts.status, ("bad", facts.status))
    if facts.status == "complete" and facts.failed:
        shade, said = "warn" if facts.ok else "bad", f"complete, {facts.failed:,} failed"
    settings, first = facts.config.get("settings", {}), facts.sessions[0]
    started = str(first.get("started", ""))[:19].replace("T", " ")
    models = ", ".join(f"{m}" if a == "default" else f"{a}={m}"
                       for a, m in settings.get("models", {}).items())  # fmt: skip
    what = [f"{settings.get('target')} over {settings.get('input')}", f"started {started} UTC"]
    what.append("a fake model" if settings.get("backend") == "fake" else f"model {models}")
    return (
        f'<header><div class="title"><h1>{e(facts.config.get("workflow"))}</h1>'
        f'<span class="pill {shade}">{e(said)}</span></div>'
        f"<p>{' · '.join(map(e, what))}</p></header>"
    )


def _tiles(facts: Facts) -> str:
    wall, prompt = facts.wall, facts.total("prompt_tokens")
    made, cached = facts.total("completion_tokens"), facts.total("cached_tokens")
    done = facts.ok + facts.failed
    tiles = [(f"{done:,}", f"of {facts.rows:,} rows" if done < facts.rows else "rows", "")]
    if facts.failed:
        tiles.append((f"{facts.failed:,}", f"failed, {facts.failed / done:.1%}", "failed"))
    per_second = f", {done / wall:,.1f} rows/s" if wall else ""
    tiles.append((short_time(wall), f"of running{per_second}", ""))
    tiles.append((f"{sum(n['calls'] for n in facts.nodes.values()):,}", "model and tool calls", ""))
    if made:
        rate = f", {made / wall:,.0f}/s" if wall else ""
        tiles.append((short(made), f"tokens written{rate}", ""))
        share = f", {cached / prompt:.0%} from cache" if prompt else ""
        tiles.append((short(prompt), f"tokens read{share}", ""))
    shown = "".join(
        f'<div class="tile {kind}"><b>{value}</b><span>{e(label)}</span></div>'
        for value, label, kind in tiles
    )
    rows = max(1, facts.rows)
    meter = "".join(f'<i style="width:{n / rows:.2%}"></i>' for n in (facts.ok, facts.failed))
    return f'<div class="tiles">{shown}</div><div class="meter">{meter}</div>'


def _errors(facts: Facts) -> str:
    if not facts.failures:
        return ""
    cards = []
    for kind, failures in sorted(facts.failures.items(), key=lambda f: -f[1].count):
        nodes = ", ".join(f"{node} ({n})" for node, n in failures.nodes.items())
        where = f"<small>in {e(cut(nodes, 300))}</small>" if nodes else ""
        examples = "".join(
            f"<li>row <code>{e(row['id'])}</code>: "
            f"{e(cut(str((row.get('error') or {}).get('message')), 600))}</li>"
            for row in failures.examples
        )
        rows = "row" if failures.count == 1 else "rows"
        cards.append(
            f'<div class="card"><h3>{e(kind)} · {failures.count:,} {rows} {where}</h3>'
            f"<ul>{examples}</ul></div>"
        )
    return section("Errors", f'<div class="errors">{"".join(cards)}</div>')


def _nodes(facts: Facts) -> str:
    nodes = sorted(facts.nodes.items(), key=lambda n: -n[1]["seconds"])
    if not nodes:
        return ""
    most = max(n["seconds"] for _, n in nodes) or 1.0
    head = ("node", "", "calls", "errors", "seconds", "each", "tokens read", "cached", "written")
    shades = {name: i % COLOURS for i, name in enumerate(facts.nodes)}
    rows = []
    for name, n in nodes:
        wrong = f"<em>{n['errors']:,}</em>" if n["errors"] else "0"
        share = f'<i style="width:{n["seconds"] / most:.1%}"></i>'
        bar = f'<div class="track c{shades[name]}">{share}</div>'
        cells = [f"{n['calls'] - n['merged']:,}", wrong, f"{n['seconds']:,.2f}",
                 short_time(n["seconds"] / max(1, n["calls"] - n["merged"])),
                 *(f"{n[k]:,}" if n[k] else "–" for k in
                   ("prompt_tokens", "cached_tokens", "completion_tokens"))]  # fmt: skip
        rows.append(
            f'<tr><td><span class="dot c{shades[name]}"></span>{e(name)}</td>'
            f'<td class="wide">{bar}</td>'
            + "".join(f'<td class="n">{c}</td>' for c in cells)
            + "</tr>"
        )
    return section(
        "Nodes",
        table(head, rows),
        "calls that were made; seconds are summed over them, and they overlap",
    )


def _rows(facts: Facts) -> str:
    if not facts.seconds:
        return ""
    marks = [("p50", facts.quantile(0.5)), ("p95", facts.quantile(0.95))]
    rows = []
    for row in facts.slowest:
        usage = row.get("usage") or {}
        outcome = (
            row.get("output") if row["status"] == "ok" else (row.get("error") or {}).get("type")
        )
        status = "ok" if row["status"] == "ok" else "<em>error</em>"
        rows.append(
            f"<tr><td><code>{e(row['id'])}</code></td><td>{status}</td>"
            f'<td class="n">{short_time(float(row.get("seconds") or 0))}</td>'
            f'<td class="n">{usage.get("prompt_tokens", 0):,}</td>'
            f'<td class="n">{usage.get("completion_tokens", 0):,}</td>'
            f'<td class="cut">{e(cut(text(outcome), 200))}</td></tr>'
        )
    head = ("row", "status", "took", "tokens read", "written", "output")
    slowest = table(head, rows, right=("took", "tokens read", "written"))
    return section("Time per row", histogram(facts.seconds, marks)) + section(
        "Slowest rows", slowest
    )


def _samples(facts: Facts) -> str:
    if not facts.samples:
        return ""
    shown = []
    for number, row in enumerate(facts.samples):
        given = facts.inputs.get(row["id"])
        left = f"<div><h3>input</h3><pre>{e(value(given))}</pre></div>" if given else ""
        shown.append(
            f"<details{' open' if number == 0 else ''}><summary><code>{e(row['id'])}</code>"
            f"<span>{e(cut(text(row.get('output')), 160))}</span></summary>"
            f'<div class="sides">{left}<div><h3>output</h3><pre>{e(value(row.get("output")))}'
            "</pre></div></div></details>"
        )
    return section("Sample outputs", "".join(shown))


def _about(facts: Facts) -> str:
    config = facts.config
    settings = {k: v for k, v in config.get("settings", {}).items() if v is not None}
    versions = ", ".join(f"{name} {v}" for name, v in config.get("versions", {}).items())
    pairs: list[tuple[str, Any]] = [("versions", versions), ("platform", config.get("platform"))]
    pairs += [(k.replace("_", " "), text(v)) for k, v in settings.items()]
    starts = [
        f"{str(s.get('started'))[:19].replace('T', ' ')} UTC: {s.get('status')}"
        + (f" after {short_time(s['stats']['seconds'])}" if "stats" in s else "")
        for s in facts.sessions
    ]
    pairs += [("starts" if len(starts) > 1 else "start", "; ".join(starts))]
    listed = "".join(f"<dt>{e(k)}</dt><dd>{e(v)}</dd>" for k, v in pairs)
    return section("How it was run", f'<dl class="card">{listed}</dl>')
