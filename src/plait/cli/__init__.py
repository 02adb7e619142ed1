"""The command line. Importing it loads neither torch nor networkx nor aiohttp."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
