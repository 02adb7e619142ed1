"""A workflow as one SVG: readable by itself, in a notebook or a README, in light and dark mode."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .grid import Size
from .layout import Layout, Point, layered
from .nodes import Workflow
from .picture import Box, Picture, picture

MARGIN = 20.0
PAD = 16.0
ROW = 46.0
LINE_HEIGHT = 22.0
NOTE_HEIGHT = 15.0
TITLE_CHARS, DETAIL_CHARS, LABEL_CHARS = 30, 44, 24
NOTE_CHARS = 60
_COLOURS = {  # kind: accent, legible on white and on near-black
    "input": "#7d8590", "output": "#2da44e", "llm": "#6e6ade", "agent": "#a259d9",
    "tool": "#149ba1", "map": "#2f81d7", "branch": "#c98a14", "loop": "#d6568c", "live": "#6e6ade",
}  # fmt: skip
_STYLE = """
.plait{font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.plait .paper{fill:#fff}.plait .box{fill:#f6f8fa;stroke:#d0d7de}
.plait .group{fill:#57606a0b;stroke:#8c959f;stroke-dasharray:4 4}
.plait .title{fill:#1f2328;font-size:13px;font-weight:600}
.plait .detail,.plait .label{fill:#59636e;font-size:11px}
.plait .kind{font-size:10px;font-weight:600;letter-spacing:.04em}
.plait .edge{fill:none;stroke:#8c959f;stroke-width:1.4}.plait .tip{fill:#8c959f}
.plait .plate{fill:#fff;opacity:.85}.plait .rail{fill:#d0d7de}.plait .faint{opacity:.45}
.plait .note{fill:#1f2328;font-size:11px;font-variant-numeric:tabular-nums}
@media (prefers-color-scheme:dark){
.plait .paper{fill:#0d1117}.plait .box{fill:#161b22;stroke:#3d444d}
.plait .group{fill:#ffffff08;stroke:#656c76}
.plait .title{fill:#f0f6fc}.plait .detail,.plait .label{fill:#9198a1}
.plait .note{fill:#d1d7e0}.plait .rail{fill:#3d444d}
.plait .plate{fill:#0d1117}.plait .edge{stroke:#656c76}.plait .tip{fill:#656c76}}
"""


def svg(workflow: Workflow) -> str:
    """The workflow's DAG as an SVG document."""
    return drawn(picture(workflow))


def drawn(shown: Picture) -> str:
    """A picture as an SVG document."""
    frame = _frame(shown)
    width, height = frame.size[0] + 2 * MARGIN, frame.size[1] + 2 * MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plait" role="img" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"<title>workflow {_text(shown.title)}</title><style>{_STYLE}</style>"
    )
    paper = f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="10"/>'
    return "\n".join([head, paper, *_draw(frame, MARGIN, MARGIN), "</svg>", ""])


@dataclass(frozen=True, slots=True)
class _Frame:
    """A picture with the size of everything in it known."""

    picture: Picture
    layout: Layout
    sizes: Mapping[str, Size]
    inside: Mapping[str, Sequence[_Frame]]

    @property
    def size(self) -> Size:
        return self.layout.width, self.layout.height


def _frame(shown: Picture) -> _Frame:
    inside = {box.id: [_frame(body) for body in box.inside] for box in shown.boxes}
    sizes = {box.id: _size(box, inside[box.id]) for box in shown.boxes}
    layout = layered(sizes, [(line.source, line.target) for line in shown.lines])
    return _Frame(shown, layout, sizes, inside)


def _size(box: Box, inside: Sequence[_Frame]) -> Size:
    title = _width(_cut(box.title, TITLE_CHARS), 14.5) + 12 + _width(box.kind, 11.5)
    notes = max((_width(_cut(note, NOTE_CHARS), 10.5) for note in box.notes), default=0.0)
    wide = max(title, _width(_cut(box.detail, DETAIL_CHARS), 11), notes, 64.0) + 26
    tall = _head(box)
    if inside:
        bodies = sum(max(f.size[0], _width(_cut(f.picture.title, TITLE_CHARS), 11)) for f in inside)
        wide = max(wide, bodies + PAD * (len(inside) + 1))
        tall += LINE_HEIGHT + max(f.size[1] for f in inside) + PAD
    return round(wide), round(tall)


def _head(box: Box) -> float:
    """Height of the part of a box that holds text."""
    tall = ROW if box.detail else 32.0
    return tall + NOTE_HEIGHT * len(box.notes) + (6.0 if box.share is not None else 0.0)


# -- drawing -----------------------------------------------------------------------------------


def _draw(frame: _Frame, left: float, top: float) -> Iterator[str]:
    yield f'<g transform="translate({left:.1f} {top:.1f})">'
    for line in frame.picture.lines:
        yield from _edge(frame.layout.routes[line.source, line.target])
    for box in frame.picture.boxes:
        yield from _box(box, frame.layout.places[box.id], frame)
    yield from _labels(frame)
    yield "</g>"


def _edge(points: Sequence[Point]) -> Iterator[str]:
    """Verticals inside a rank, gentle curves between ranks, and a tip at the end."""
    path = [f"M{_at(points[0])}"]
    for i, (x, y) in enumerate(points[1:], 1):
        px, py = points[i - 1]
        if i % 2 or abs(px - x) < 0.5:
            path.append(f"L{_at((x, y))}")
        else:
            middle = (py + y) / 2
            path.append(f"C{_at((px, middle))} {_at((x, middle))} {_at((x, y))}")
    yield f'<path class="edge" d="{" ".join(path)}"/>'
    x, y = points[-1]
    tip = f"M{_at((x, y))} L{_at((x - 4, y - 8))} L{_at((x + 4, y - 8))} Z"
    yield f'<path class="tip" d="{tip}"/>'


def _labels(frame: _Frame) -> Iterator[str]:
    """Texts on lines, in the last gap before the target; one that would hide another moves up."""
    taken: list[tuple[float, float, float]] = []
    for line in frame.picture.lines:
        if not line.label:
            continue
        (ax, ay), (bx, by) = frame.layout.routes[line.source, line.target][-3:-1]
        x, y = ax * 0.4 + bx * 0.6, ay * 0.45 + by * 0.55 + 4
        shown = _cut(line.label, LABEL_CHARS)
        wide = _width(shown, 11) + 4
        while any(abs(x - ox) < (wide + o) / 2 and abs(y - oy) < 14 for ox, oy, o in taken):
            y -= 14
        taken.append((x, y, wide))
        yield (
            f'<rect class="plate" x="{x - wide / 2:.1f}" y="{y - 11:.1f}" width="{wide:.1f}" '
            f'height="15" rx="3"/><text class="label" x="{x:.1f}" y="{y:.1f}" '
            f'text-anchor="middle">{_text(shown)}</text>'
        )


def _box(box: Box, place: Point, frame: _Frame) -> Iterator[str]:
    (x, y), (wide, tall) = place, frame.sizes[box.id]
    colour = _COLOURS.get(box.kind, _COLOURS["input"])
    shape = "box group" if box.inside else "box"
    faint = " faint" if box.faint else ""
    base, bar = y + (19 if box.detail else 20.5), _head(box)
    yield f'<g class="node{faint}" data-id="{_text(box.id)}"><title>{_text(box.title)}</title>'
    yield f'<rect class="{shape}" x="{x:.1f}" y="{y:.1f}" width="{wide}" height="{tall}" rx="7"/>'
    yield (
        f'<rect x="{x + 6:.1f}" y="{y + 8:.1f}" width="3.5" height="{bar - 16}" rx="1.75" '
        f'fill="{colour}"/>'
    )
    yield f'<text class="title" x="{x + 16:.1f}" y="{base:.1f}">{_text(_cut(box.title, TITLE_CHARS))}</text>'  # noqa: E501
    yield (
        f'<text class="kind" x="{x + wide - 10:.1f}" y="{base:.1f}" text-anchor="end" '
        f'fill="{colour}">{_text(box.kind)}</text>'
    )
    if box.detail:
        detail = _text(_cut(box.detail, DETAIL_CHARS))
        yield f'<text class="detail" x="{x + 16:.1f}" y="{y + 35:.1f}">{detail}</text>'
    yield from _notes(box, x, y, wide, colour)
    left = x + PAD
    for body in frame.inside[box.id]:
        head = y + bar + 10
        title = _text(_cut(body.picture.title, TITLE_CHARS))
        yield f'<text class="detail" x="{left:.1f}" y="{head:.1f}">{title}</text>'
        yield from _draw(body, left, head + LINE_HEIGHT - 10)
        left += max(body.size[0], _width(_cut(body.picture.title, TITLE_CHARS), 11)) + PAD
    yield "</g>"


def _notes(box: Box, x: float, y: float, wide: float, colour: str) -> Iterator[str]:
    """The further lines of a box, and its bar."""
    top = y + (ROW if box.detail else 32.0) - 11 + NOTE_HEIGHT
    for number, note in enumerate(box.notes):
        line = top + number * NOTE_HEIGHT
        shown = _text(_cut(note, NOTE_CHARS))
        yield f'<text class="note" x="{x + 16:.1f}" y="{line:.1f}">{shown}</text>'
    if box.share is not None:
        line, long = y + _head(box) - 11, wide - 26
        part = max(0.0, min(1.0, box.share)) * long
        for kind, size in (('class="rail"', long), (f'fill="{colour}"', part)):
            yield (
                f'<rect {kind} x="{x + 16:.1f}" y="{line:.1f}" width="{size:.1f}" height="3.5" '
                'rx="1.75"/>'
            )


def _at(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"


# -- text --------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """Escaped for XML, without the control characters that XML forbids even when escaped."""
    shown = "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(shown)


def _cut(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _width(text: str, size: float) -> float:
    """A safe guess at the width of a text whose font is not known here."""
    return sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.59 for c in text) * size
