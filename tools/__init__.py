"""Functions a workflow may call."""

from .calculator import calculator
from .sql import sqlite_tool
from .tool import Tool, tool

__all__ = ["Tool", "calculator", "sqlite_tool", "tool"]
