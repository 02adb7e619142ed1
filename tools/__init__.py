"""Functions a workflow may call."""

from .calculator import calculator
from .tool import Tool, tool

__all__ = ["Tool", "calculator", "tool"]
