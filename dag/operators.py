"""What decorators make: named, typed callables that become nodes when a workflow is traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast

from .arg import Arg, Args, Lit
from .errors import Problem, WorkflowError
from .live import current_program
from .nodes import Node
from .shown import Shown
from .source import Source, caller, of_function, problem_at
from .trace import TRACE
from .types import hints_of

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operator."""

    name: str
    type: Any
    default: Any = ...
    """`...` when it must be given."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Arguments and result of an operator."""

    parameters: tuple[Parameter, ...]
    returns: Any

    @property
    def types(self) -> dict[str, Any]:
        return {p.name: p.type for p in self.parameters}

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters if p.default is ...)


def signature_of(fn: Callable[..., Any]) -> Signature:
    """Read a function's signature; unannotated arguments and results count as Any.

    Raises WorkflowError for *args, **kwargs and positional-only arguments: edges need names.
    """
    _be_function(fn)
    hints = hints_of(fn)
    parameters = []
    for p in inspect.signature(fn).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
            message = f"{fn.__name__!r} takes {p}: arguments of an operator need names"
            raise WorkflowError(problem_at(of_function(fn), message, "list them one by one"))
        default = ... if p.default is p.empty else p.default
        parameters.append(Parameter(p.name, hints.get(p.name, Any), default))
    return Signature(tuple(parameters), hints.get("return", Any))


def _be_function(fn: Any) -> None:
    """Raise WorkflowError for what has no name to go by, and for methods: a row has no `self`."""
    if not hasattr(fn, "__name__"):
        message = f"an operator is made of a function, not of a {type(fn).__name__}"
        raise WorkflowError(problem_at(caller(), message, "wrap it in a `def`"))
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is not None and code.co_varnames[: min(1, code.co_argcount)] in (("self",), ("cls",)):
        message = f"{fn.__name__!r} is a method, and an operator has no {code.co_varnames[0]!r}"
        hint = "put @staticmethod above the decorator, or move the function out of the class"
        raise WorkflowError(problem_at(of_function(fn), message, hint))


class Operator(Shown, Generic[P, R]):
    """A decorated function. Called while a workflow is traced it becomes a node.

    To a type checker it is the function itself: a call has the declared result type.
    """

    def __init__(self, fn: Callable[P, R], name: str | None = None) -> None:
        self.fn = fn
        self.signature = signature_of(fn)
        self.name = name or fn.__name__
        self.source: Source | None = of_function(fn)
        self.__name__, self.__qualname__ = fn.__name__, fn.__qualname__
        self.__doc__, self.__module__ = fn.__doc__, fn.__module__
        self.__wrapped__ = fn

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name with defaults filled in; raises WorkflowError listing what is wrong."""
        names = [p.name for p in self.signature.parameters]
        known = f"its arguments are {', '.join(names) or 'none'}"
        problems: list[Problem] = []
        if len(args) > len(names):
            message = f"takes {len(names)} arguments, {len(args)} were given"
            problems.append(self._misuse(message, known))
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                problems.append(self._misuse(f"has no argument {name!r}", known))
            elif name in bound:
                problems.append(self._misuse(f"got argument {name!r} twice", "give it once"))
            bound[name] = value
        for p in self.signature.parameters:
            if p.name not in bound and p.default is ...:
                problems.append(self._misuse(f"misses argument {p.name!r}", f"give {p.name}=..."))
            bound.setdefault(p.name, p.default)
        if problems:
            raise WorkflowError(*problems)
        return {name: bound[name] for name in names}

    def with_defaults(self, args: Mapping[str, Arg]) -> Args:
        """Arguments in the order of the signature, those not given as their defaults."""
        return tuple(
            (p.name, args.get(p.name, Lit(p.default)))
            for p in self.signature.parameters
            if p.name in args or p.default is not ...
        )

    def _misuse(self, message: str, hint: str) -> Problem:
        return problem_at(caller(), f"{self.name!r} {message}", hint, self.name)

    def node(self, id: str, bound: Args, source: Source | None) -> Node:
        """The node that a call of this operator becomes."""
        raise NotImplementedError

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = TRACE.get()
        if trace is None:
            return self.call_outside(*args, **kwargs)
        return cast(R, trace.call(self, args, kwargs))

    def call_outside(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What a call does when no workflow is being traced."""
        hint = f"use engine.call({self.name}, ...), or in a live program {self.name}.acall(...)"
        message = f"{self.name!r} was called outside a workflow"
        raise WorkflowError(problem_at(caller(), message, hint, self.name))

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run this operator now, inside a live program (an `async def` workflow)."""
        return cast(R, await current_program(self.name).call(self, self.bind(args, kwargs)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
