"""Texts as a model's tokenizer reads them, for those who count tokens before anything runs.

A text that the model refuses fails its own row when that runs. Counting goes on: what no tokenizer
takes (half of a character) is read as a question mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..dag.imagined import CHARACTERS
from ..dag.numbering import Row

if TYPE_CHECKING:
    from .llm import LLM

SAMPLE = 20_000
"""Characters of the rows that are tokenized to learn how long a token is."""


def reader(llm: LLM) -> Callable[[str], Sequence[int]]:
    """Token ids of a text, whatever is in it."""
    return lambda text: llm.encode(text.encode("utf-8", "replace").decode("utf-8"))


def characters_of(llm: LLM, sample: str) -> float:
    """Characters per token in texts like this one."""
    return len(sample) / max(1, len(reader(llm)(sample))) if sample else CHARACTERS


def sample_of(rows: Iterable[Row | None]) -> str:
    """Some of what the rows say."""
    out: list[str] = []
    size = 0
    for row in rows:
        for value in (row or {}).values():
            out.append((value if isinstance(value, str) else str(value))[:SAMPLE])
            size += len(out[-1])
        if size > SAMPLE:
            break
    return "\n".join(out)
