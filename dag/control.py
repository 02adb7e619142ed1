"""Control flow as operators: `map`, `when` and `loop`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast, overload

from .errors import Problem, WorkflowError
from .handles import Handle
from .nodes import Branch, Input, Lit, Loop, Map, Ref, Workflow
from .source import Source, caller, problem_at
from .trace import TRACE, Trace
from .types import fits, item_type, type_name
from .workflow import as_workflow

T = TypeVar("T")
R = TypeVar("R")
MAX_WIDTH = 10_000
MAX_ITERS = 10_000


def map_(
    op: Callable[..., R], items: Iterable[Any], /, *, max_width: int = MAX_WIDTH, **shared: Any
) -> list[R]:
    """Run an operator or workflow for every item of a list; results keep the items' order.

    Items go to the first input that `shared` does not give; `shared` inputs are the same for
    every item. All items run concurrently. A list longer than `max_width` is a LimitError.
    """
    trace, source = _current("map"), caller()
    with trace_goes_on(trace):
        body = as_workflow(op)
        item = _item_input(body, shared, source)
        over = trace.arg(items)
        bound = tuple((name, trace.arg(value)) for name, value in shared.items())
        _check_items(trace, body, item, over, source)
        for name, arg in bound:
            trace.check_type(body.name, name, arg, body.nodes[name].type, source)
        node = Map(
            id=trace.fresh_id(f"map_{body.name}"), body=body, item=item.id, over=over, bound=bound,
            max_width=max_width, type=list[body.type], source=source,  # type: ignore[name-defined]
        )  # fmt: skip
        return cast(list[R], trace.add(node))
    return cast(list[R], trace.unknown("map", source))


@overload
def when(condition: Any, then: Callable[[], T], otherwise: Callable[[], T]) -> T: ...
@overload
def when(condition: Any, then: Callable[[], T], otherwise: T) -> T: ...
@overload
def when(condition: Any, then: T, otherwise: Callable[[], T]) -> T: ...
@overload
def when(condition: Any, then: T, otherwise: T) -> T: ...
def when(condition: Any, then: Any, otherwise: Any) -> Any:
    """`then` if the condition holds, else `otherwise`; what only the other side needs never runs.

    Sides are values of the workflow, constants, or functions without arguments that make one.
    """
    trace, source = _current("when"), caller()
    with trace_goes_on(trace):
        sides = [trace.arg(s() if callable(s) and not isinstance(s, Handle) else s)
                 for s in (then, otherwise)]  # fmt: skip
        kinds = [trace.type_of(s) for s in sides]
        kind = kinds[0] if fits(kinds[1], kinds[0]) else Any
        node = Branch(
            id=trace.fresh_id("when"), condition=trace.arg(condition), then=sides[0],
            otherwise=sides[1], type=kind, source=source,
        )  # fmt: skip
        return trace.add(node)
    return trace.unknown("when", source)


def loop(
    body: Callable[[T], T], state: T, *, until: Callable[[T], Any] | None = None, max_iters: int
) -> T:
    """Apply `body` to the state until `until(state)` holds, at most `max_iters` times.

    The result is the last state. `until` is not asked before the first application. When it never
    holds, the state after `max_iters` applications is the result.
    """
    trace, source = _current("loop"), caller()
    with trace_goes_on(trace):
        if not 1 <= max_iters <= MAX_ITERS:
            raise WorkflowError(
                problem_at(source, f"max_iters={max_iters} is not 1 to {MAX_ITERS}")
            )
        step = _one_input(as_workflow(body), source)
        stop = _one_input(as_workflow(until), source) if until is not None else None
        start = trace.arg(state)
        trace.check_type(step.name, step.inputs[0].id, start, step.inputs[0].type, source)
        if not fits(step.type, step.inputs[0].type):
            message = f"loop body {step.name!r} takes {type_name(step.inputs[0].type)}"
            raise WorkflowError(problem_at(source, f"{message} but returns {type_name(step.type)}"))
        node = Loop(
            id=trace.fresh_id(f"loop_{step.name}"), body=step, state=start, until=stop,
            max_iters=max_iters, type=step.type, source=source,
        )  # fmt: skip
        return cast(T, trace.add(node))
    return cast(T, trace.unknown("loop", source))


class trace_goes_on:
    """Note a WorkflowError in the trace and go on behind the block, to find what else is wrong."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> bool:
        if not isinstance(error, WorkflowError):
            return False
        self.trace.problems += error.problems
        return True


def _current(name: str) -> Trace:
    trace = TRACE.get()
    if trace is None:
        hint = "in an `async def` workflow use plain Python: loops, ifs and plait.gather"
        raise WorkflowError(
            problem_at(caller(), f"plait.{name} was called outside a workflow", hint)
        )
    return trace


def _item_input(body: Workflow, shared: dict[str, Any], source: Source | None) -> Input:
    """The input that takes the items; every other one must be shared or have a default."""
    names = [i.id for i in body.inputs]
    problems: list[Problem] = [
        problem_at(source, f"{body.name!r} has no input {name!r}", f"it has {', '.join(names)}")
        for name in shared if name not in names
    ]  # fmt: skip
    free = [i for i in body.inputs if i.id not in shared]
    if not free:
        problems.append(problem_at(source, f"{body.name!r} has no input left for the items"))
    problems += [
        problem_at(source, f"map over {body.name!r} misses input {i.id!r}", f"give {i.id}=...")
        for i in free[1:] if i.default is ...
    ]  # fmt: skip
    if problems:
        raise WorkflowError(*problems)
    return free[0]


def _check_items(
    trace: Trace, body: Workflow, item: Input, over: Any, source: Source | None
) -> None:
    given = trace.type_of(over)
    kind = item_type(given)
    if isinstance(over, Lit) and not isinstance(over.value, list | tuple):
        kind = None
    if kind is None:
        what = repr(over.id) if isinstance(over, Ref) else "this value"
        message = f"map goes over a list; {what} is {type_name(given)}"
        raise WorkflowError(problem_at(source, message))
    if not fits(kind, item.type):
        message = f"{body.name!r} wants {type_name(item.type)} for {item.id!r}; the items are"
        raise WorkflowError(problem_at(source, f"{message} {type_name(kind)}"))


def _one_input(body: Workflow, source: Source | None) -> Workflow:
    required = [i for i in body.inputs if i.default is ...]
    if len(required) > 1 or not body.inputs:
        message = f"{body.name!r} must take one argument, the state, to be used in plait.loop"
        raise WorkflowError(
            problem_at(source, message, "put several values into one pydantic model")
        )
    return body
