"""Handles: what calls return while a workflow is traced. A handle stands for a node's value.

Taking a field or an item of a handle adds a `Project` node; anything that needs the value itself
raises at once, naming the node and what to use instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import WorkflowError
from .nodes import Ref
from .source import caller, problem_at
from .template import Step

if TYPE_CHECKING:
    from .trace import Trace


def _needs_value(what: str, hint: str) -> Callable[..., NoReturn]:
    def method(self: Handle, *_: Any, **__: Any) -> NoReturn:
        id = self._ref.id
        raise WorkflowError(problem_at(caller(), f"the workflow {what} {id!r}", hint, id))

    return method


class Handle:
    """A value that a run will compute."""

    __slots__ = ("_trace", "_ref", "_type")

    def __init__(self, trace: Trace, ref: Ref, kind: Any) -> None:
        self._trace, self._ref, self._type = trace, ref, kind

    def __getattr__(self, name: str) -> Handle:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._trace.project(self, name)

    def __getitem__(self, key: Step) -> Handle:
        if isinstance(key, bool) or not isinstance(key, str | int):
            what, hint = "takes a slice of", "slice in a @tool"
            raise WorkflowError(problem_at(caller(), f"the workflow {what} {self._ref.id!r}", hint))
        return self._trace.project(self, key)

    def __repr__(self) -> str:
        return f"<value of {self._ref.id}>"


_LOOP = "use plait.map to run an operator for every item"
_BRANCH = "use plait.when to choose by a value"
_TOOL = "compute with values in a @tool"
for _name, (_what, _hint) in {
    "__bool__": ("tests the truth of", _BRANCH),
    "__len__": ("takes the length of", _TOOL),
    "__iter__": ("iterates over", _LOOP),
    "__contains__": ("searches in", _TOOL),
    "__str__": ("formats", "put the text together in an @llm body or a @tool"),
    "__format__": ("formats", "put the text together in an @llm body or a @tool"),
    "__call__": ("calls", "only operators can be called"),
    "__await__": ("awaits", "only `async def` workflows can await, with .acall(...)"),
    **{f"__{op}__": ("compares", _TOOL) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{
        f"__{side}{op}__": ("computes with", _TOOL)
        for op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or")
        for side in ("", "r")
    },
    **{f"__{op}__": ("converts", _TOOL) for op in ("int", "float", "index", "neg", "hash")},
}.items():
    setattr(Handle, _name, _needs_value(_what, _hint))
