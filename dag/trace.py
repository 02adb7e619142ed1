"""Tracing: running a workflow function once, on handles, to record its DAG.

A trace goes on after a mistake wherever it can, so that one check reports everything wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from .errors import Problem, WorkflowError
from .handles import Handle
from .nodes import Arg, Args, Const, Input, Lit, Node, Project, Rec, Ref, Seq
from .source import Source, caller, problem_at
from .template import Step
from .types import field_type, fits, type_name

MAX_NODES = 10_000
TRACE: ContextVar[Trace | None] = ContextVar("plait_trace", default=None)


class Callee(Protocol):
    """What a trace needs of an operator."""

    name: str

    @property
    def signature(self) -> Any: ...
    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]: ...
    def node(self, id: str, bound: Args, source: Source | None) -> Node: ...


class Trace:
    """Nodes recorded so far, and what was found wrong."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.problems: list[Problem] = []

    # -- recording -----------------------------------------------------------------------------

    def input(self, name: str, kind: Any, default: Any, source: Source | None) -> Handle:
        return self.add(Input(id=name, type=kind, default=default, source=source))

    def call(self, callee: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle:
        """Record a call of an operator; misuse is noted and the trace goes on."""
        source = caller()
        try:
            values = callee.bind(args, kwargs)
            bound = tuple((name, self.arg(value)) for name, value in values.items())
            for name, arg in bound:
                self.check_type(callee.name, name, arg, callee.signature.types[name], source)
            return self.add(callee.node(self.fresh_id(callee.name), bound, source))
        except WorkflowError as error:
            self.problems += error.problems
            return self.unknown(callee.name, source)

    def add(self, node: Node) -> Handle:
        if len(self.nodes) >= MAX_NODES:
            message = f"the workflow has over {MAX_NODES} nodes"
            raise WorkflowError(problem_at(node.source, message, "use plait.map or plait.loop"))
        self.nodes[node.id] = node
        return Handle(self, Ref(node.id), node.type)

    def project(self, handle: Handle, step: Step) -> Handle:
        """A field or an item of a value. Chains make one node: `a.b[0]` is a path below `a`."""
        of, path = handle._ref, (step,)
        parent = self.nodes[of.id]
        kind: Any = Any
        try:
            kind = field_type(handle._type, step)
        except KeyError:
            name = type_name(handle._type)
            message = f"{of.id!r} is a {name} and has no {step!r}"
            self.problems.append(problem_at(caller(), message, _fields_hint(handle._type), of.id))
        if isinstance(parent, Project) and isinstance(parent.of, Ref):
            of, path = parent.of, (*parent.path, step)  # type: ignore[assignment]
        id = of.id + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)
        if id in self.nodes:
            return Handle(self, Ref(id), self.nodes[id].type)
        return self.add(Project(id=id, of=of, path=path, type=kind, source=caller()))

    def unknown(self, name: str, source: Source | None) -> Handle:
        """A stand-in for the result of a call that could not be recorded."""
        return self.add(Const(id=self.fresh_id(name), value=None, source=source))

    # -- values --------------------------------------------------------------------------------

    def fresh_id(self, name: str) -> str:
        if name not in self.nodes:
            return name
        number = 2
        while f"{name}_{number}" in self.nodes:
            number += 1
        return f"{name}_{number}"

    def arg(self, value: Any) -> Arg:
        """An argument tree from a Python value with handles in it."""
        if isinstance(value, Handle):
            if value._trace is not self:
                message = f"{value._ref.id!r} belongs to another workflow"
                hint = "pass it in as a keyword argument of plait.map or plait.loop"
                raise WorkflowError(problem_at(caller(), message, hint))
            return value._ref
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            items = tuple(self.arg(v) for v in value)
            return Lit(value) if _literal(items) else Seq(items, type(value))
        if type(value) is dict:
            pairs = tuple((k, self.arg(v)) for k, v in value.items())
            return Lit(value) if _literal(a for _, a in pairs) else Rec(pairs)
        return Lit(value)

    def type_of(self, arg: Arg) -> Any:
        match arg:
            case Ref(id):
                return self.nodes[id].type
            case Lit(value):
                return type(value) if isinstance(value, str | int | float) else Any
            case Seq():
                return list
            case Rec():
                return dict

    def check_type(
        self, callee: str, name: str, arg: Arg, wanted: Any, source: Source | None
    ) -> None:
        given = self.type_of(arg)
        if not fits(given, wanted):
            what = f"{arg.id!r} is" if isinstance(arg, Ref) else "it is given"
            message = (
                f"{callee!r} wants {type_name(wanted)} for {name!r}; {what} {type_name(given)}"
            )
            self.problems.append(problem_at(source, message, None, callee))


def _literal(args: Any) -> bool:
    return all(isinstance(a, Lit) for a in args)


def _fields_hint(kind: Any) -> str | None:
    fields = getattr(kind, "model_fields", None)
    return f"it has {', '.join(fields)}" if fields else None


@contextmanager
def tracing() -> Iterator[Trace]:
    """Record calls of operators made inside; traces nest."""
    trace = Trace()
    token = TRACE.set(trace)
    try:
        yield trace
    finally:
        TRACE.reset(token)


def record(
    fn: Callable[..., Any], inputs: Mapping[str, tuple[Any, Any]], source: Source | None
) -> tuple[Trace, Arg]:
    """Trace `fn` on handles of its inputs (type and default by name); the trace and the output.

    An error inside `fn` that ends the trace is added to its problems; the output is then None.
    """
    with tracing() as trace:
        handles = {
            n: trace.input(n, kind, default, source) for n, (kind, default) in inputs.items()
        }
        try:
            return trace, trace.arg(fn(**handles))
        except WorkflowError as error:
            trace.problems += error.problems
        except RecursionError:
            trace.problems.append(problem_at(source, "the workflow calls itself without end"))
        return trace, Lit(None)
