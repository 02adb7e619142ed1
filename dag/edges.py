"""Types on edges: what an argument is, and what is wrong with giving it to someone.

Tracing and checking both ask here, so that one mistake has one wording whoever finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import is_typeddict

from .arg import Arg, Fill, Lit, Rec, Ref, Seq
from .errors import Problem
from .nodes import Input, Node, Workflow
from .source import Source, problem_at
from .types import field_type, fits, hints_of, item_type, type_name


def type_of(arg: Arg, nodes: Mapping[str, Node]) -> Any:
    """Type of an argument's value; Any where it is not known."""
    match arg:
        case Ref(id):
            return nodes[id].type if id in nodes else Any
        case Lit(value):
            return type(value) if isinstance(value, str | int | float | list | dict) else Any
        case Seq(_, kind):
            return kind
        case Rec():
            return dict
        case Fill():
            return str


def misfit(
    callee: str, name: str, arg: Arg, wanted: Any, nodes: Mapping[str, Node], source: Source | None
) -> Problem | None:
    """The problem of giving `arg` to the argument `name` of `callee`, if there is one."""
    given = type_of(arg, nodes)
    if fits(given, wanted):
        return None
    message = f"{callee!r} wants {type_name(wanted)} for {name!r}; {_what(arg)} {type_name(given)}"
    return problem_at(source, message, _remedy(arg, given, wanted), callee)


def misfit_item(
    callee: str, name: str, over: Arg, wanted: Any, nodes: Mapping[str, Node],
    source: Source | None,
) -> Problem | None:  # fmt: skip
    """The problem of mapping `callee`, which takes items as `name`, over this argument."""
    given = type_of(over, nodes)
    kind = item_type(given)
    if kind is None:
        message = f"map goes over a list; {_what(over)} {type_name(given)}"
        return problem_at(source, message, "give a list, or call the operator itself", callee)
    if not fits(kind, wanted):
        message = f"{callee!r} wants {type_name(wanted)} for {name!r}; the items are"
        hint = f"declare the items as {type_name(wanted)}"
        return problem_at(source, f"{message} {type_name(kind)}", hint, callee)
    return None


def loop_misfits(
    body: Workflow, until: Workflow | None, state: Arg, nodes: Mapping[str, Node],
    source: Source | None,
) -> list[Problem]:  # fmt: skip
    """The problems of starting `body` with this state and applying it to its own result."""
    wanted = state_input(body)
    problems = [misfit(body.name, wanted.id, state, wanted.type, nodes, source)]
    for taker in (body, until) if until is not None else (body,):
        taken = state_input(taker)
        if not fits(body.type, taken.type):
            message = f"{taker.name!r} wants {type_name(taken.type)} for {taken.id!r}; loop body"
            message = f"{message} {body.name!r} returns {type_name(body.type)}"
            hint = "the result of the body goes in there: give both one type"
            problems.append(problem_at(source, message, hint, taker.name))
    return [p for p in problems if p is not None]


def state_input(body: Workflow) -> Input:
    """The input of a loop's body that takes the state: the one without a default, or the first."""
    return next((i for i in body.inputs if i.default is ...), body.inputs[0])


def missing_part(id: str, kind: Any, step: str | int, source: Source | None) -> Problem | None:
    """The problem of taking `.step` of the value called `id`, if values of its type have none."""
    try:
        field_type(kind, step)
    except KeyError:
        message = f"{id!r} is a {type_name(kind)} and has no {step!r}"
        return problem_at(source, message, _parts_of(kind), id)
    return None


def _parts_of(kind: Any) -> str:
    fields = getattr(kind, "model_fields", None) or (is_typeddict(kind) and hints_of(kind))
    if fields:
        return f"it has {', '.join(fields)}"
    if item_type(kind) is not None:
        return "take an item, such as [0], or all of them with a map"
    return "declare a type that has it"


def _what(arg: Arg) -> str:
    return f"{arg.id!r} is" if isinstance(arg, Ref) else "it is given"


def _remedy(arg: Arg, given: Any, wanted: Any) -> str:
    item = item_type(given)
    if item not in (None, Any) and fits(item, wanted):
        return "use plait.map to run it for every item"
    if isinstance(arg, Ref) and given is str and wanted in (int, float, bool):
        return "a model writes other types when its call is declared to return them"
    return f"give a value of type {type_name(wanted)}"
