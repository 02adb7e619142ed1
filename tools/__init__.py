"""Functions a workflow may call."""

from .tool import Tool, tool

__all__ = ["Tool", "tool"]
