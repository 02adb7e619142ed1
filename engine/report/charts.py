"""Charts of a report as inline SVG; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from .facts import spread
from .tracks import Level, Task

WIDTH, HEIGHT, LOW = 960, 150, 96
BINS = 160
COLOURS = 8
"""Colours that tell nodes apart; further nodes begin again."""


def short_time(seconds: float) -> str:
    """A length of time in three digits or so."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def histogram(seconds: Sequence[float], marks: Sequence[tuple[str, float]]) -> str:
    """How long rows took, with a few quantiles marked."""
    counts, most = spread(seconds, 48), max(seconds, default=0.0)
    top, step = max(counts, default=0) or 1, WIDTH / 48
    bars = [
        f'<rect class="bar" x="{i * step + 1:.1f}" y="{HEIGHT - h:.1f}" width="{step - 2:.1f}" '
        f'height="{h:.1f}" rx="1.5"><title>{n} rows, {short_time(most * i / 48)} to '
        f"{short_time(most * (i + 1) / 48)}</title></rect>"
        for i, n in enumerate(counts) if (h := n / top * (HEIGHT - 36) + (1.5 if n else 0))
    ]  # fmt: skip
    lines = []
    for row, (name, value) in enumerate(marks):
        x = min(value / most, 1.0) * WIDTH if most else 0.0
        side = 'text-anchor="end" dx="-5"' if x > WIDTH * 0.8 else 'dx="5"'
        lines.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{4 + 12 * row}" y2="{HEIGHT}"/>'
            f'<text class="tick" x="{x:.1f}" y="{13 + 12 * row}" {side}>{escape(name)} '
            f"{short_time(value)}</text>"
        )
    return _chart([*bars, *lines], ("0", short_time(most)), "rows by the time they took")


def activity(tasks: Sequence[Task], nodes: Sequence[str]) -> str:
    """How many tasks of each node are under way, over time, on top of each other."""
    end = max((t.end for t in tasks), default=0.0)
    if not end:
        return ""
    by_node: dict[str, list[Task]] = {node: [] for node in nodes}
    for task in tasks:
        by_node[task.node].append(task)
    layers = {node: _under_way(found, end) for node, found in by_node.items()}
    times = [end * i / (BINS - 1) for i in range(BINS)]
    shades = {node: f"c{i % COLOURS}" for i, node in enumerate(nodes)}
    top = max(map(sum, zip(*layers.values(), strict=True))) or 1.0
    shown = areas(times, layers, shades, end, top, HEIGHT)
    return _chart([*shown, _says(f"{top:.0f} at once")], ("0", short_time(end)),
                  "tasks under way over time")  # fmt: skip


def pages(levels: Sequence[Level], end: float) -> str:
    """Pages of a KV pool over time: those that requests use, and those kept for later."""
    total = max(level.pages for level in levels)
    peak = max(level.held + level.cached for level in levels)
    top = total if peak > total / 2 else peak or 1
    layers = {"used": [float(n.held) for n in levels], "cached": [float(n.cached) for n in levels]}
    shades = {"used": "used", "cached": "kept"}
    shown = areas([n.at for n in levels], layers, shades, end, top)
    said = f"at most {peak:,} of {total:,} pages ({peak / max(1, total):.1%})"
    return _chart([*shown, _says(said)], ("0", short_time(end)), "KV pages over time", LOW)


def requests(levels: Sequence[Level], end: float) -> str:
    """Requests of a model over time: those that generate, and those that wait."""
    layers = {
        "running": [float(n.running) for n in levels], "waiting": [float(n.waiting) for n in levels]
    }  # fmt: skip
    top = max(n.running + n.waiting for n in levels) or 1
    shades = {"running": "running", "waiting": "waits"}
    shown = areas([n.at for n in levels], layers, shades, end, top)
    said = f"at most {max(n.running for n in levels):,} running"
    return _chart([*shown, _says(said)], ("0", short_time(end)), "requests over time", LOW)


def areas(
    times: Sequence[float], layers: Mapping[str, Sequence[float]], shades: Mapping[str, str],
    end: float, top: float, high: int = LOW,
) -> list[str]:  # fmt: skip
    """Areas on top of each other. `top` is the value at the upper edge, `high` pixels up."""
    below, paths = [0.0] * len(times), []
    scale = (high - 16) / (top or 1)
    xs = [at / (end or 1) * WIDTH for at in times]
    for name, values in layers.items():
        above = [b + v for b, v in zip(below, values, strict=True)]
        there = " ".join(f"{x:.1f},{high - a * scale:.1f}" for x, a in zip(xs, above, strict=True))
        back = " ".join(
            f"{x:.1f},{high - b * scale:.1f}" for x, b in [*zip(xs, below, strict=True)][::-1]
        )
        paths.append(f'<polygon class="{shades[name]}" points="{there} {back}"><title>'
                     f"{escape(name)}</title></polygon>")  # fmt: skip
        below = above
    return paths


def _says(text: str) -> str:
    return f'<text class="tick" x="4" y="11">{escape(text)}</text>'


def _under_way(tasks: Sequence[Task], end: float) -> list[float]:
    """Mean number of tasks under way in each of the equal parts of the time."""
    width, found = end / BINS, [0.0] * BINS
    for task in tasks:
        first = int(task.start / width)
        last = min(BINS - 1, int((task.start + task.seconds) / width))
        for i in range(min(first, last), last + 1):
            inside = min(task.start + task.seconds, (i + 1) * width) - max(task.start, i * width)
            found[i] += max(0.0, inside) / width
    return found


def _chart(parts: Sequence[str], ends: tuple[str, str], label: str, height: int = HEIGHT) -> str:
    """A chart over an axis with its two ends named."""
    left, right, y = escape(ends[0]), escape(ends[1]), height + 15
    axis = (
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{height}" y2="{height}"/>'
        f'<text class="tick" x="0" y="{y}">{left}</text>'
        f'<text class="tick" x="{WIDTH}" y="{y}" text-anchor="end">{right}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height + 20}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}{axis}</svg>'
    )
