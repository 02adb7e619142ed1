"""Drawings of a workflow, each a text: Mermaid, SVG, or a self-contained HTML page."""

from __future__ import annotations

from .mermaid import mermaid
from .page import html
from .svg import svg

__all__ = ["html", "mermaid", "svg"]
