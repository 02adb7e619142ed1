"""Live programs: `async def` workflows, which run as plain Python and await operators.

The room that runs programs sets the current program; operators find it here. Nothing else of the
runtime is known to this room.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, overload

from .errors import WorkflowError
from .source import caller, problem_at

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


class Program(Protocol):
    """A running live program."""

    async def call(self, target: Any, arguments: Mapping[str, Any]) -> Any:
        """Run an operator or a workflow with these arguments as a task of this program."""
        ...


PROGRAM: ContextVar[Program | None] = ContextVar("plait_program", default=None)


def current_program(name: str) -> Program:
    """The live program this code runs in; raises WorkflowError when it runs in none."""
    program = PROGRAM.get()
    if program is None:
        hint = f"outside a workflow use engine.call({name}, ...)"
        message = f"{name!r} was awaited outside an `async def` workflow"
        raise WorkflowError(problem_at(caller(), message, hint, name))
    return program


def used_operators(body: Callable[..., Any]) -> tuple[Any, ...]:
    """Operators and workflows that a live program's code names and calls with `.acall`."""
    names = inspect.getclosurevars(inspect.unwrap(body))
    values = {**names.globals, **names.nonlocals}.values()
    return tuple(v for v in values if hasattr(type(v), "acall"))


# As `asyncio.gather` is typed: a few calls of different types each keep their own.
@overload
async def gather(a: Awaitable[T1], b: Awaitable[T2], /) -> tuple[T1, T2]: ...
@overload
async def gather(a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> tuple[T1, T2, T3]: ...
@overload
async def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], /
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def gather(*calls: Awaitable[T]) -> list[T]: ...
async def gather(*calls: Awaitable[Any]) -> Any:
    """Await several calls at once; results, in a list, stand in the order of the calls.

    The first error cancels the others and is raised.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
