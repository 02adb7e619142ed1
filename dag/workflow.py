"""`@workflow`: a function that composes operators, compiled by tracing it once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from .arg import Lit
from .errors import Problem, WorkflowError
from .live import current_program
from .nodes import Input, Workflow
from .operators import Operator, Signature, signature_of
from .shown import Shown
from .source import caller, of_function, problem_at
from .trace import TRACE, record

P = ParamSpec("P")
R = TypeVar("R")


class WorkflowFunction(Shown, Generic[P, R]):
    """A decorated workflow. Called inside another workflow it becomes part of that one's DAG."""

    def __init__(self, fn: Callable[P, R]) -> None:
        self.fn, self.name = fn, fn.__name__
        self.source = of_function(fn)
        self.live = inspect.iscoroutinefunction(fn)
        self.__name__, self.__qualname__ = fn.__name__, fn.__qualname__
        self.__doc__, self.__module__, self.__wrapped__ = fn.__doc__, fn.__module__, fn

    @cached_property
    def signature(self) -> Signature:
        return signature_of(self.fn)

    @cached_property
    def draft(self) -> Draft:
        """The workflow as far as it compiles, with every problem found."""
        return Draft(_live(self)) if self.live else _trace(self.name, self.fn, self)

    @property
    def workflow(self) -> Workflow:
        """The compiled workflow; raises WorkflowError with every problem found."""
        return self.draft.finished()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if TRACE.get() is None:
            hint = f"use engine.call({self.name}, ...)"
            message = f"{self.name!r} was called outside a workflow"
            raise WorkflowError(problem_at(caller(), message, hint))
        if self.live:
            hint = "make the calling workflow `async def` and await it there"
            message = f"{self.name!r} is a live program and cannot be part of a compiled workflow"
            raise WorkflowError(problem_at(caller(), message, hint))
        return self.fn(*args, **kwargs)

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run this workflow now, inside a live program."""
        bound = inspect.signature(self.fn).bind(*args, **kwargs).arguments
        return cast(R, await current_program(self.name).call(self, bound))

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]]) -> WorkflowFunction[P, R]: ...
@overload
def workflow(fn: Callable[P, R]) -> WorkflowFunction[P, R]: ...
def workflow(fn: Callable[P, Any]) -> WorkflowFunction[P, Any]:
    """Make a function a workflow.

    A plain function is run once, on handles, to record its DAG; calls of operators become nodes
    and data flow makes the edges. An `async def` is a live program: it runs as plain Python for
    every row and awaits operators with `.acall(...)`.
    """
    return WorkflowFunction(fn)


@dataclass(frozen=True, slots=True)
class Draft:
    """A workflow as far as it could be compiled, and everything tracing found wrong with it."""

    workflow: Workflow
    problems: tuple[Problem, ...] = ()
    cause: BaseException | None = None

    def finished(self) -> Workflow:
        """The workflow; raises WorkflowError with every problem found."""
        if self.problems:
            raise WorkflowError(*self.problems) from self.cause
        return self.workflow


def draft(target: Any) -> Draft:
    """Compile whatever may be run: a workflow, a decorated one, or a lone operator.

    Raises WorkflowError only when there is nothing to compile.
    """
    match target:
        case Workflow():
            return Draft(target)
        case WorkflowFunction():
            return target.draft
        case Operator():
            made = _trace(target.name, lambda **inputs: target(**inputs), target)
            # The call stands nowhere in the user's code; the operator does.
            nodes = {n.id: replace(n, source=target.source) for n in made.workflow.nodes.values()}
            return replace(made, workflow=replace(made.workflow, nodes=nodes))
    name = getattr(target, "__name__", repr(target))
    raise WorkflowError(
        problem_at(
            caller(), f"{name} is not a workflow", "decorate it with @workflow, @llm or @tool"
        )
    )


def as_workflow(target: Any) -> Workflow:
    """A workflow from whatever may be run; raises WorkflowError with every problem found."""
    return draft(target).finished()


def _trace(
    name: str, fn: Callable[..., Any], of: WorkflowFunction[Any, Any] | Operator[Any, Any]
) -> Draft:
    inputs = {p.name: (p.type, p.default) for p in of.signature.parameters}
    trace, output = record(name, fn, inputs, of.source)
    kind = of.signature.returns
    if kind is Any:
        kind = trace.type_of(output)
    workflow = Workflow(name, trace.nodes, output, kind, of.source)
    return Draft(workflow, tuple(dict.fromkeys(trace.problems)), trace.cause)


def _live(function: WorkflowFunction[Any, Any]) -> Workflow:
    inputs = {
        p.name: Input(id=p.name, type=p.type, default=p.default, source=function.source)
        for p in function.signature.parameters
    }
    returns = function.signature.returns
    return Workflow(function.name, inputs, Lit(None), returns, function.source, function.fn)
