"""Where in the user's code something was written, for error messages."""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import Problem

_PER_LINE = 4
_STANDARD = sysconfig.get_paths()["stdlib"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file and a line in it, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def problem(self, message: str, hint: str, node: str | None = None) -> Problem:
        return Problem(message, self.file, self.line, hint, node)


def caller() -> Source | None:
    """The innermost line on the stack that is neither plait's own nor Python's, such as the event
    loop's; None when there is none, as when an engine calls back from a thread of its own."""
    frame = sys._getframe(1)
    while frame is not None:
        own = str(frame.f_globals.get("__name__", "")).startswith("plait.")
        if not own and not _of_python(frame.f_code.co_filename):
            return Source(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def of_error(error: BaseException) -> Source | None:
    """The line of user code that an exception comes from: the innermost one that is not plait's,
    nor in a library's or Python's own files."""
    found, trace = None, error.__traceback__
    while trace is not None:
        code, name = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__", ""))
        if not name.startswith("plait.") and not _installed(code.co_filename):
            found = Source(code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _installed(file: str) -> bool:
    return "site-packages" in file or _of_python(file)


def _of_python(file: str) -> bool:
    return "site-packages" not in file and file.startswith((_STANDARD, "<frozen"))


def of_function(fn: Callable[..., Any]) -> Source | None:
    """Where a function is defined: the line of its `def` or first decorator."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return Source(code.co_filename, code.co_firstlineno) if code is not None else None


def problem_at(source: Source | None, message: str, hint: str, node: str | None = None) -> Problem:
    """A problem with its place, when the place is known. Every problem says what to do about it."""
    return (
        source.problem(message, hint, node) if source else Problem(message, None, None, hint, node)
    )


def crowded(problems: Sequence[Problem]) -> bool:
    """Whether the line of the last problem has had several: the code there goes round in circles.

    User code runs on with stand-ins for values, so a loop that waits for a value would not end.
    """
    last = problems[-1]
    same = sum((p.file, p.line) == (last.file, last.line) for p in problems)
    return same > _PER_LINE
