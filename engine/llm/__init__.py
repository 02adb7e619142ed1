"""The local inference engine. Importing this package does not import torch; `LLM` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .allocator import prefer_huge_pages

if TYPE_CHECKING:
    from .counters import Counters as Counters
    from .llm import LLM as LLM

__all__ = ["Counters", "LLM"]

prefer_huge_pages()


def __getattr__(name: str) -> Any:
    if name == "LLM":
        from .llm import LLM

        return LLM
    if name == "Counters":
        from .counters import Counters

        return Counters
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
