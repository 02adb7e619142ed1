"""`@tool`: a Python function that a workflow, or a model inside an agent, may call."""

from __future__ import annotations

import collections.abc
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar, get_args, get_origin, overload

from ..dag.arg import Args
from ..dag.errors import WorkflowError
from ..dag.live import PROGRAM
from ..dag.nodes import Effect, Node, ToolCall, ToolSpec
from ..dag.operators import Operator
from ..dag.source import Source, caller, of_function, problem_at
from .values import Arguments, Result

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT = 60.0
MAX_TIMEOUT = 7 * 24 * 3600.0
MAX_RETRIES = 100
MAX_OUTPUT = 10_000_000
EFFECTS = ("pure", "read", "write")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Tool(Operator[P, R]):
    """A function with a JSON schema, an effect and limits.

    In a compiled workflow a call becomes a node; in a live program it is awaited with `.acall`;
    anywhere else a call is the plain function itself (for `async def`, its coroutine).
    """

    def __init__(
        self, fn: Callable[P, Any], *, name: str | None = None, effect: Effect = "write",
        timeout: float = TIMEOUT, retries: int = 0, idempotent: bool = False,
        max_output: int = MAX_OUTPUT,
    ) -> None:  # fmt: skip
        _check_function(fn)
        super().__init__(fn, name)
        self.effect, self.timeout, self.retries = effect, timeout, retries
        self.idempotent, self.max_output = idempotent, max_output
        self._check_options()
        returns, awaitable = _awaited(self.signature.returns)
        self.is_async = awaitable or inspect.iscoroutinefunction(fn)
        """Whether the function is awaited on the event loop rather than run in a thread."""
        self.returns = returns
        self.arguments = Arguments(self.name, self.signature, self.source)
        self.result = Result(self.name, returns, max_output, self.source)
        self.spec = ToolSpec(
            name=self.name, effect=effect, description=inspect.getdoc(fn) or "",
            parameters=self.arguments.schema, timeout=timeout, attempts=retries + 1, run=self,
        )  # fmt: skip

    def _check_options(self) -> None:
        problems = [
            problem_at(self.source, f"tool {self.name!r} {message}", hint)
            for ok, message, hint in (
                (_NAME.fullmatch(self.name), "needs a name of letters, digits, _ and -",
                 "give @tool(name=...)"),
                (self.effect in EFFECTS, f"has effect={self.effect!r}", "say pure, read or write"),
                (_within(self.timeout, 0, MAX_TIMEOUT) and self.timeout > 0,
                 f"has timeout={self.timeout!r}", f"give seconds, above 0 to {MAX_TIMEOUT:.0f}"),
                (isinstance(self.retries, int) and _within(self.retries, 0, MAX_RETRIES),
                 f"has retries={self.retries!r}", f"give 0 to {MAX_RETRIES}"),
                (isinstance(self.max_output, int) and _within(self.max_output, 1, 2**30),
                 f"has max_output={self.max_output!r}", f"give bytes, 1 to {2**30}"),
            )
            if not ok
        ]  # fmt: skip
        if not problems and self.retries and self.effect == "write" and not self.idempotent:
            message = f"tool {self.name!r} writes, so retries={self.retries} could write twice"
            hint = 'say effect="read" or "pure", or idempotent=True if a second run does no harm'
            problems.append(problem_at(self.source, message, hint))
        if problems:
            raise WorkflowError(*problems)

    def node(self, id: str, bound: Args, source: Source | None) -> Node:
        return ToolCall(id=id, type=self.returns, source=source, tool=self.spec, bound=bound)

    def call_outside(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The plain function; refused in a live program, where it would escape the journal."""
        if PROGRAM.get() is None:
            return self.fn(*args, **kwargs)
        hint = f"write `await {self.name}.acall(...)`; {self.name}.fn is the plain function"
        message = f"tool {self.name!r} was called directly in a live program"
        raise WorkflowError(problem_at(caller(), message, hint, self.name))


class Decorator(Protocol):
    """`@tool(...)` with its options given; an async function counts as its awaited result."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(fn: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...
@overload
def tool(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *, name: str | None = None, effect: Effect = "write", timeout: float = TIMEOUT,
    retries: int = 0, idempotent: bool = False, max_output: int = MAX_OUTPUT,
) -> Decorator: ...  # fmt: skip
def tool(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a tool: arguments and result are checked against its annotations.

    `effect` says what a run may do with it: "pure" (same input, same output: calls are shared),
    "read" (no side effect, may change with time) or "write" (the default: a side effect, never
    silently run twice). `timeout` is in seconds and for each attempt. `retries` repeats a failed
    attempt of a pure or read tool, or of a write tool declared `idempotent`. `max_output` bounds
    the result, in bytes of JSON. The docstring is what a model in an agent reads of it.

    Plain functions run in threads, `async def` functions on the event loop. Raises WorkflowError
    when options contradict each other or an annotation has no JSON form.
    """
    if fn is not None:
        return Tool(fn, **options)
    return lambda body: Tool(body, **options)


def _check_function(fn: Any) -> None:
    if isinstance(fn, Operator) or not inspect.isroutine(fn):
        message, hint = f"@tool takes a function, not {fn!r}", "write a `def` and decorate it once"
        raise WorkflowError(problem_at(caller(), message, hint))
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        message = f"tool {fn.__name__!r} is a generator"
        raise WorkflowError(problem_at(of_function(fn), message, "return a list instead"))


def _awaited(kind: Any) -> tuple[Any, bool]:
    """The result's type, and whether the annotation says that it must be awaited."""
    args = get_args(kind)
    if get_origin(kind) in (collections.abc.Awaitable, collections.abc.Coroutine):
        return args[-1], True
    return kind, False


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and low <= value <= high
