"""Handles: what calls return while a workflow is traced. A handle stands for a node's value.

Taking a field or an item of a handle adds a `Project` node. Anything that needs the value itself
is noted as a problem, naming the node and what to use instead; the trace goes on with some value,
to find what else is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .arg import Ref
from .errors import Problem, WorkflowError
from .source import Source, caller, problem_at
from .template import Step


class Recorder(Protocol):
    """What a handle needs of the trace it belongs to."""

    def project(self, handle: Handle, step: Step) -> Handle: ...
    def misuse(self, problem: Problem) -> None: ...
    def missing(self, name: str, source: Source | None, values: Iterable[Any] = ()) -> Handle: ...


class Handle:
    """A value that a run will compute."""

    __slots__ = ("_trace", "_ref", "_type")

    def __init__(self, trace: Recorder, ref: Ref, kind: Any) -> None:
        self._trace, self._ref, self._type = trace, ref, kind

    def __getattr__(self, name: str) -> Handle:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._trace.project(self, name)

    def __getitem__(self, key: Step) -> Handle:
        if isinstance(key, bool) or not isinstance(key, str | int):
            what, hint = "takes a slice of", "slice in a @tool"
            self._trace.misuse(
                problem_at(caller(), f"the workflow {what} {self._ref.id!r}", hint, self._ref.id)
            )
            return self._trace.missing("slice", caller(), [self])
        return self._trace.project(self, key)

    def __repr__(self) -> str:
        return f"<value of {self._ref.id}>"


Instead = Callable[[Handle], Any]


def _needs_value(what: str, hint: str, instead: Instead | None) -> Callable[..., Any]:
    def method(self: Handle, *_: Any, **__: Any) -> Any:
        id = self._ref.id
        problem = problem_at(caller(), f"the workflow {what} {id!r}", hint, id)
        if instead is None:
            raise WorkflowError(problem)
        self._trace.misuse(problem)
        return instead(self)

    return method


def _unknown(handle: Handle) -> Handle:
    return handle._trace.missing("value", caller(), [handle])


_LOOP = "use plait.map to run an operator for every item"
_BRANCH = "use plait.when to choose by a value"
_TOOL = "compute with values in a @tool"
_TEXT = "put the text together in an @llm body or a @tool"
_FORBIDDEN: dict[str, tuple[str, str, Instead | None]] = {
    "__bool__": ("tests the truth of", _BRANCH, lambda _: True),
    "__len__": ("takes the length of", _TOOL, lambda _: 1),
    "__iter__": ("iterates over", _LOOP, lambda handle: iter([_unknown(handle)])),
    "__contains__": ("searches in", _TOOL, lambda _: True),
    "__str__": ("formats", _TEXT, repr),
    "__format__": ("formats", _TEXT, repr),
    "__call__": ("calls", "only operators can be called", _unknown),
    "__await__": ("awaits", "only `async def` workflows can await, with .acall(...)", None),
    **{
        f"__{op}__": ("compares", _TOOL, lambda _: True)
        for op in ("eq", "ne", "lt", "le", "gt", "ge")
    },
    **{
        f"__{side}{op}__": ("computes with", _TOOL, _unknown)
        for op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or")
        for side in ("", "r")
    },
    "__neg__": ("computes with", _TOOL, _unknown),
    **{f"__{op}__": ("converts", _TOOL, None) for op in ("int", "float", "index", "hash")},
}
for _name, (_what, _hint, _instead) in _FORBIDDEN.items():
    setattr(Handle, _name, _needs_value(_what, _hint, _instead))
