"""Pictures in JSON values, so that a run's directory can be drawn without its workflow file."""

from __future__ import annotations

from typing import Any

from .picture import Box, Line, Picture

DEEPEST = 50
"""Levels of bodies that are read."""


def to_json(shown: Picture) -> dict[str, Any]:
    """A picture without the facts of its boxes and without notes."""
    boxes = [
        {"id": b.id, "kind": b.kind, "title": b.title, "detail": b.detail, "name": b.name}
        | ({"inside": [to_json(body) for body in b.inside]} if b.inside else {})
        for b in shown.boxes
    ]  # fmt: skip
    lines = [[line.source, line.target, line.label] for line in shown.lines]
    return {"title": shown.title, "boxes": boxes, "lines": lines}


def from_json(given: Any, depth: int = 0) -> Picture:
    """The picture of `to_json`. Raises ValueError for anything else."""
    try:
        if depth > DEEPEST:
            raise ValueError("too deep")
        boxes = tuple(_box(box, depth) for box in given["boxes"])
        known = {box.id for box in boxes}
        lines = tuple(Line(*map(str, line)) for line in given["lines"])
        if any(line.source not in known or line.target not in known for line in lines):
            raise ValueError("a line without its boxes")
        return Picture(str(given["title"]), boxes, lines)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no picture of a workflow: {error}") from error


def _box(given: Any, depth: int) -> Box:
    id, kind, title, detail, name = (
        str(given[key]) for key in ("id", "kind", "title", "detail", "name")
    )  # fmt: skip
    inside = tuple(from_json(body, depth + 1) for body in given.get("inside", ()))
    return Box(id, kind, title, detail, inside=inside, name=name)
