"""What a notebook shows as a picture.

Drawings are made of workflows, so they stand above them; how to paint is therefore told to this
module from the top (`plait/__init__.py`), and nothing is imported before something is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Paint = Callable[[Any], dict[str, str]]
"""From a workflow or an operator to its pictures, by MIME type."""

_paint: Paint | None = None


def paint_with(paint: Paint) -> None:
    """Say how things are shown."""
    global _paint
    _paint = paint


class Shown:
    """Something that a notebook shows as a picture of its DAG."""

    __slots__ = ()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What IPython asks for: Mermaid where it can be drawn, else SVG, else text."""
        return _paint(self) if _paint is not None else {"text/plain": repr(self)}
