"""Tracing: running a workflow function once, on handles, to record its DAG.

A trace goes on after a mistake wherever it can, so that one check reports everything wrong: what
cannot be recorded is noted, and a `Missing` node takes its place and keeps its edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from .arg import Arg, Args, Lit, Rec, Ref, Seq
from .edges import misfit, missing_part, type_of
from .errors import Problem, WorkflowError, first_line, noting
from .handles import Handle
from .nodes import Input, Node, Project
from .source import Source, caller, crowded, of_error, problem_at
from .template import Path, Step, path_text
from .types import field_type

MAX_NODES = 10_000
TRACE: ContextVar[Trace | None] = ContextVar("plait_trace", default=None)


class Callee(Protocol):
    """What a trace needs of an operator."""

    name: str

    @property
    def signature(self) -> Any: ...
    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]: ...
    def node(self, id: str, bound: Args, source: Source | None) -> Node: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Node):
    """Stands for a call that could not be recorded; only in workflows that are refused."""

    bound: Args = ()

    def args(self) -> Args:
        return self.bound


class Trace:
    """Nodes recorded so far, and what was found wrong."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.problems: list[Problem] = []
        self._numbers: dict[str, int] = {}  # next free number of a name
        self.cause: BaseException | None = None
        """Exception of the user's that ended the trace."""

    # -- recording -----------------------------------------------------------------------------

    def input(self, name: str, kind: Any, default: Any, source: Source | None) -> Handle:
        return self.add(Input(id=name, type=kind, default=default, source=source))

    def call(self, callee: Callee, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle:
        """Record a call of an operator; misuse is noted and the trace goes on."""
        source, id = caller(), self.fresh_id(callee.name)
        node: Node | None = None
        bound: Args = ()
        with noting(self.problems):
            values = callee.bind(args, kwargs)
            bound = tuple((name, self.arg(value)) for name, value in values.items())
            for name, arg in bound:
                self.check_type(callee.name, name, arg, callee.signature.types[name], source)
        with noting(self.problems):
            node = callee.node(id, bound, source)
        if node is None or len(bound) < len(callee.signature.parameters):
            return self.missing(callee.name, source, (*args, *kwargs.values()))
        return self.add(node)

    def add(self, node: Node) -> Handle:
        if len(self.nodes) >= MAX_NODES:
            message = f"the workflow has over {MAX_NODES} nodes"
            raise WorkflowError(problem_at(node.source, message, "use plait.map or plait.loop"))
        self.nodes[node.id] = node
        return Handle(self, Ref(node.id), node.type)

    def project(self, handle: Handle, step: Step) -> Handle:
        """A field or an item of a value. Chains make one node: `a.b[0]` is a path below `a`."""
        of, path, source = handle._ref, (step,), caller()
        problem = missing_part(of.id, handle._type, step, source)
        if problem:
            self.problems.append(problem)
        kind = Any if problem else field_type(handle._type, step)
        parent = self.nodes[of.id]
        whole: Path = path
        if isinstance(parent, Project) and isinstance(parent.of, Ref):
            of, whole = parent.of, (*parent.path, step)
        id = of.id + path_text(whole)
        if id in self.nodes:
            return Handle(self, Ref(id), self.nodes[id].type)
        return self.add(Project(id=id, of=of, path=whole, type=kind, source=source))

    # -- what is wrong -------------------------------------------------------------------------

    def misuse(self, problem: Problem) -> None:
        """Note a handle used as a value. Many on one line end the trace, as the code there is a
        loop that waits for a value."""
        self.problems.append(problem)
        if crowded(self.problems):
            raise WorkflowError(problem)

    def missing(self, name: str, source: Source | None, values: Iterable[Any] = ()) -> Handle:
        """A stand-in for the result of a call that could not be recorded."""
        args = tuple((str(i), self.arg(value)) for i, value in enumerate(values))
        return self.add(Missing(id=self.fresh_id(name), bound=args, source=source))

    # -- values --------------------------------------------------------------------------------

    def fresh_id(self, name: str) -> str:
        if name not in self.nodes:
            return name
        number = self._numbers.get(name, 2)
        while f"{name}_{number}" in self.nodes:
            number += 1
        self._numbers[name] = number
        return f"{name}_{number}"

    def arg(self, value: Any) -> Arg:
        """An argument tree from a Python value with handles in it."""
        if isinstance(value, Handle):
            if value._trace is not self:
                message = f"{value._ref.id!r} belongs to another workflow"
                hint = "pass it in as a keyword argument of plait.map or plait.loop"
                self.problems.append(problem_at(caller(), message, hint))
                return self.missing(value._ref.id, caller())._ref
            return value._ref
        if type(value) in (list, tuple):
            items = tuple(self.arg(v) for v in value)
            return Lit(value) if _literal(items) else Seq(items, type(value))
        if type(value) is dict:
            pairs = tuple((k, self.arg(v)) for k, v in value.items())
            return Lit(value) if _literal(a for _, a in pairs) else Rec(pairs)
        return Lit(value)

    def type_of(self, arg: Arg) -> Any:
        return type_of(arg, self.nodes)

    def check_type(
        self, callee: str, name: str, arg: Arg, wanted: Any, source: Source | None
    ) -> None:
        problem = misfit(callee, name, arg, wanted, self.nodes, source)
        if problem:
            self.problems.append(problem)


def _literal(args: Any) -> bool:
    return all(isinstance(a, Lit) for a in args)


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
    name: str, fn: Callable[..., Any], inputs: Mapping[str, tuple[Any, Any]],
    source: Source | None,
) -> tuple[Trace, Arg]:  # fmt: skip
    """Trace `fn` on handles of its inputs (type and default by name); the trace and the output.

    An error inside `fn` that ends the trace is added to its problems; the output is then a
    stand-in that needs every node.
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
            message = f"workflow {name!r} calls itself without end"
            trace.problems.append(problem_at(source, message, "use plait.loop to repeat a step"))
        except Exception as error:
            trace.cause = error
            if not trace.problems:  # otherwise it may just follow from what is noted
                message = f"workflow {name!r} raised {type(error).__name__}: {first_line(error)}"
                hint = "it runs on handles: compute with values in a @tool"
                trace.problems.append(problem_at(of_error(error) or source, message, hint))
        bound = tuple((id, Ref(id)) for id in trace.nodes)
        id = trace.fresh_id("output")
        trace.nodes[id] = Missing(id=id, bound=bound, source=source)
        return trace, Ref(id)
