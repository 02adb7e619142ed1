"""Charts of a report as inline SVG; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .facts import Task, spread

WIDTH, HEIGHT = 960, 150
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
    end = max((t.start + t.seconds for t in tasks), default=0.0)
    if not end:
        return ""
    layers = {node: _under_way([t for t in tasks if t.node == node], end) for node in nodes}
    below, paths = [0.0] * BINS, []
    top = max(map(sum, zip(*layers.values(), strict=True))) or 1.0
    step, scale = WIDTH / (BINS - 1), (HEIGHT - 16) / top
    for node, counts in layers.items():
        above = [b + c for b, c in zip(below, counts, strict=True)]
        there = " ".join(f"{i * step:.1f},{HEIGHT - a * scale:.1f}" for i, a in enumerate(above))
        back = " ".join(
            f"{i * step:.1f},{HEIGHT - b * scale:.1f}" for i, b in reversed([*enumerate(below)])
        )
        shade = list(layers).index(node) % COLOURS
        name = escape(node)
        paths.append(f'<polygon class="c{shade}" points="{there} {back}"><title>{name}</title>'
                     "</polygon>")  # fmt: skip
        below = above
    label = f'<text class="tick" x="4" y="11">{top:.0f} at once</text>'
    return _chart([*paths, label], ("0", short_time(end)), "tasks under way over time")


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


def _chart(parts: Sequence[str], ends: tuple[str, str], label: str) -> str:
    """A chart over an axis with its two ends named."""
    left, right, y = escape(ends[0]), escape(ends[1]), HEIGHT + 15
    axis = (
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        f'<text class="tick" x="0" y="{y}">{left}</text>'
        f'<text class="tick" x="{WIDTH}" y="{y}" text-anchor="end">{right}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT + 20}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}{axis}</svg>'
    )
