"""Control flow as operators: `map`, `when` and `loop`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, TypeVar, cast, overload

from .arg import Arg
from .edges import loop_misfits, misfit_item
from .errors import Problem, WorkflowError, noting
from .handles import Handle
from .nodes import Branch, Input, Loop, Map, Workflow
from .source import Source, caller, problem_at
from .trace import TRACE, Trace
from .types import fits
from .workflow import draft

T = TypeVar("T")
R = TypeVar("R")
MAX_WIDTH = 10_000
MAX_ITERS = 10_000


def map_(
    op: Callable[Concatenate[T, ...], R], items: Iterable[T], /, *, max_width: int = MAX_WIDTH,
    **shared: Any,
) -> list[R]:  # fmt: skip
    """Run an operator or workflow for every item of a list; results keep the items' order.

    Items go to the first input that `shared` does not give (a type checker takes it to be the
    first of all); `shared` inputs are the same for
    every item. All items run concurrently. A list longer than `max_width` is a LimitError.
    """
    trace, source = _current("map"), caller()
    body = _body(trace, op)
    over = trace.arg(items)
    bound = tuple((name, trace.arg(value)) for name, value in shared.items())
    item = _item_input(trace, body, shared, source) if body else None
    if body is None or item is None:
        return cast(list[R], trace.missing("map", source, (items, *shared.values())))
    wrong = misfit_item(body.name, item.id, over, item.type, trace.nodes, source)
    trace.problems += [wrong] if wrong else []
    for name, arg in bound:
        trace.check_type(body.name, name, arg, body.nodes[name].type, source)
    node = Map(
        id=trace.fresh_id(f"map_{body.name}"), body=body, item=item.id, over=over, bound=bound,
        max_width=max_width, type=list[body.type], source=source,  # type: ignore[name-defined]
    )  # fmt: skip
    return cast(list[R], trace.add(node))


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
    sides = [_side(trace, side, source) for side in (then, otherwise)]
    kinds = [trace.type_of(s) for s in sides]
    kind = kinds[0] if fits(kinds[1], kinds[0]) else Any
    node = Branch(
        id=trace.fresh_id("when"), condition=trace.arg(condition), then=sides[0],
        otherwise=sides[1], type=kind, source=source,
    )  # fmt: skip
    return trace.add(node)


def loop(
    body: Callable[[T], T], state: T, *, until: Callable[[T], Any] | None = None, max_iters: int
) -> T:
    """Apply `body` to the state until `until(state)` holds, at most `max_iters` times.

    The result is the last state. `until` is not asked before the first application. When it never
    holds, the state after `max_iters` applications is the result.
    """
    trace, source = _current("loop"), caller()
    if not 1 <= max_iters <= MAX_ITERS:
        message = f"max_iters={max_iters} is not 1 to {MAX_ITERS}"
        trace.problems.append(problem_at(source, message, "give a bound in this range"))
    step = _one_input(trace, _body(trace, body), source)
    stop = _one_input(trace, _body(trace, until), source) if until is not None else None
    start = trace.arg(state)
    if step is None:
        return cast(T, trace.missing("loop", source, [state]))
    trace.problems += loop_misfits(step, stop, start, trace.nodes, source)
    node = Loop(
        id=trace.fresh_id(f"loop_{step.name}"), body=step, state=start, until=stop,
        max_iters=max_iters, type=step.type, source=source,
    )  # fmt: skip
    return cast(T, trace.add(node))


def _current(name: str) -> Trace:
    trace = TRACE.get()
    if trace is None:
        hint = "in an `async def` workflow use plain Python: loops, ifs and plait.gather"
        raise WorkflowError(
            problem_at(caller(), f"plait.{name} was called outside a workflow", hint)
        )
    return trace


def _body(trace: Trace, target: Any) -> Workflow | None:
    """The workflow to run inside; its problems are noted, and None stands for no workflow."""
    with noting(trace.problems):
        drafted = draft(target)
        trace.problems += drafted.problems
        return drafted.workflow
    return None


def _side(trace: Trace, side: Any, source: Source | None) -> Arg:
    with noting(trace.problems):
        return trace.arg(side() if callable(side) and not isinstance(side, Handle) else side)
    return trace.missing("side", source)._ref


def _item_input(
    trace: Trace, body: Workflow, shared: dict[str, Any], source: Source | None
) -> Input | None:
    """The input that takes the items; every other one must be shared or have a default."""
    names = [i.id for i in body.inputs]
    problems: list[Problem] = [
        problem_at(source, f"{body.name!r} has no input {name!r}", f"it has {', '.join(names)}")
        for name in shared if name not in names
    ]  # fmt: skip
    free = [i for i in body.inputs if i.id not in shared]
    if not free:
        message = f"{body.name!r} has no input left for the items"
        problems.append(problem_at(source, message, "leave one input for them"))
    problems += [
        problem_at(source, f"map over {body.name!r} misses input {i.id!r}", f"give {i.id}=...")
        for i in free[1:] if i.default is ...
    ]  # fmt: skip
    trace.problems += problems
    return None if problems else free[0]


def _one_input(trace: Trace, body: Workflow | None, source: Source | None) -> Workflow | None:
    """The body if it can take the state as its one argument."""
    if body is None:
        return None
    required = [i for i in body.inputs if i.default is ...]
    if len(required) <= 1 and body.inputs:
        return body
    message = f"{body.name!r} must take one argument, the state, to be used in plait.loop"
    hint = "put several values into one pydantic model"
    trace.problems.append(problem_at(source, message, hint))
    return None
