"""Every error a user of plait can meet.

PlaitError
├── UserError            something the caller can put right; the command line exits with 1
│   ├── WorkflowError    the workflow itself is wrong; carries every problem found
│   ├── InputError       rows, files or arguments cannot be read
│   ├── ConfigError      options contradict each other or are out of range
│   └── ModelError       a model cannot be found, is not supported, or cannot be loaded
├── RowError             one row failed; the others go on
│   ├── ToolError        a tool raised
│   ├── ToolTimeout      a tool took longer than its limit
│   ├── OutputError      a value is not of its declared type, or cannot be written as JSON
│   ├── PromptError      a prompt cannot be served: empty, too long, tokens outside the vocabulary
│   ├── GenerationError  the model broke down: NaN logits, text that ended before its JSON did
│   ├── LimitError       a bound was reached: turns, iterations, width, size
└── EngineError          a fault of plait's own; please report it
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class PlaitError(Exception):
    """Root of all errors raised by plait."""


class UserError(PlaitError):
    """Something the caller can put right."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a workflow: what, where, and what to do about it."""

    message: str
    """What is wrong, in one sentence."""
    file: str | None = None
    line: int | None = None
    hint: str | None = None
    """What to do about it."""
    node: str | None = None
    """Name of the node concerned."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


def in_order(problems: Collection[Problem]) -> tuple[Problem, ...]:
    """Problems each once, sorted by file and line; those without a place come last."""
    return tuple(
        sorted(dict.fromkeys(problems), key=lambda p: (p.file is None, p.file or "", p.line or 0))
    )


class WorkflowError(UserError):
    """The workflow is wrong. `problems` holds everything found, in the order of the source."""

    def __init__(self, *problems: Problem | str) -> None:
        found = [p if isinstance(p, Problem) else Problem(p) for p in problems]
        self.problems: tuple[Problem, ...] = in_order(found)
        super().__init__("\n".join(str(p) for p in self.problems))


class InputError(UserError):
    """Rows, files or arguments cannot be read."""


class ConfigError(UserError):
    """Options contradict each other or are out of range."""


class ModelError(UserError):
    """A model cannot be found, is not supported, or cannot be loaded."""


class RowError(PlaitError):
    """One row failed; the others go on. `node` names the operator that failed."""

    def __init__(self, message: str, node: str | None = None) -> None:
        super().__init__(message)
        self.node = node


class ToolError(RowError):
    """A tool raised."""


class ToolTimeout(RowError):
    """A tool took longer than its limit."""


class OutputError(RowError):
    """A value is not of its declared type, or cannot be written as JSON."""


class PromptError(RowError):
    """A prompt cannot be served: empty, too long, or with tokens outside the vocabulary."""


class GenerationError(RowError):
    """The model broke down: NaN logits, or text that ended before its JSON did."""


class LimitError(RowError):
    """A bound was reached: turns, iterations, fan-out width, size."""


class EngineError(PlaitError):
    """A fault of plait's own; please report it."""


@contextmanager
def noting(problems: list[Problem]) -> Iterator[None]:
    """Note a WorkflowError and go on behind the block, to find what else is wrong."""
    try:
        yield
    except WorkflowError as error:
        problems += error.problems


def as_fault(error: BaseException) -> PlaitError:
    """The error as one of ours: what is not, a panic of an extension too, is a fault of plait's."""
    if isinstance(error, PlaitError):
        return error
    fault = EngineError(f"{type(error).__name__}: {first_line(error)}")
    fault.__cause__ = error
    return fault


def first_line(error: BaseException, limit: int = 500) -> str:
    """The error in one bounded line, for messages that quote it."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"


def in_short(value: Any, limit: int = 40) -> str:
    """A value as Python writes it, cut off."""
    try:
        text = repr(value)
    except Exception:  # a value's own code, or a number too long to write
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def list_names(names: Sequence[str], limit: int = 8) -> str:
    """Names for an error message: `a, b, c and 4 more`."""
    shown = ", ".join(repr(n) for n in names[:limit])
    rest = len(names) - limit
    return shown if rest <= 0 else f"{shown} and {rest} more"


def meant(name: str, known: Collection[str]) -> str | None:
    """The known name that was most likely meant by one that is not known."""
    close = difflib.get_close_matches(name, known, 1)
    return close[0] if close else None


def nearest(name: str, known: Collection[str]) -> str | None:
    """A hint that says what may have been meant by a name that is not known."""
    close = meant(name, known)
    if close:
        return f"did you mean {close!r}?"
    return f"known: {list_names(list(known))}" if known else None
