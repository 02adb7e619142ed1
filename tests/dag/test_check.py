"""Checking: all problems at once, each with its place and a hint, and no false alarm."""

from __future__ import annotations

import datetime
import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel

import plait
from plait.dag.arg import Arg, Ref, Seq
from plait.dag.check import check, problems_of
from plait.dag.jsonable import cannot_be_json
from plait.dag.nodes import (
    Branch,
    Input,
    LLMCall,
    Loop,
    Map,
    Node,
    Project,
    ToolCall,
    ToolSpec,
    Workflow,
)
from plait.dag.sampling import Sampling
from plait.dag.source import Source
from plait.dag.template import Slot, Template, Text

from .operators import Facts, draft, extract, good, lookup, review, send, solve


def workflow(*nodes: Node, output: Arg, kind: Any = Any) -> Workflow:
    return Workflow("made", {n.id: n for n in nodes}, output, kind, Source("made.py", 1))


def call(id: str, needs: str | None = None, line: int = 2, **more: Any) -> LLMCall:
    parts = (f"{id}: ", Slot("x")) if needs else (id,)
    bound = (("x", Ref(needs)),) if needs else ()
    known: dict[str, Any] = {
        "prompt": Template((Text("user", parts),), bare=True), "bound": bound, "type": str,
        "sampling": Sampling(), "source": Source("made.py", line), "name": id,
    }  # fmt: skip
    return LLMCall(id=id, **(known | more))


SEARCH = ToolSpec(
    "search", "read",
    parameters={"type": "object", "required": ["query"],
                "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}},
)  # fmt: skip
BODY = workflow(Input(id="item", type=int), call("inner", "item"), output=Ref("inner"), kind=str)
TWO = workflow(Input(id="a"), Input(id="b"), call("inner", "a"), output=Ref("inner"))


def tool_call(id: str, line: int = 2, **bound: Any) -> ToolCall:
    args = tuple((name, Ref(of)) for name, of in bound.items())
    return ToolCall(id=id, tool=SEARCH, bound=args, source=Source("made.py", line))


def test_good_workflows_have_no_problems() -> None:
    @plait.workflow
    def flow(topic: str) -> dict[str, Any]:
        text = draft(topic)
        facts = extract(text)
        names = plait.map(lookup, facts.names)
        best = plait.loop(draft, text, until=good, max_iters=2)
        return {"best": plait.when(good(best), best, lambda: solve(topic)), "names": names,
                "year": facts.year}  # fmt: skip

    assert problems_of(flow) == ()
    assert problems_of(flow, models=["default"]) == ()
    assert [problems_of(op) for op in (draft, lookup, solve, send)] == [(), (), (), ()]


MADE: dict[str, tuple[Workflow, str, str]] = {
    "unknown reference": (
        workflow(call("first"), call("second", "frist"), output=Ref("second")),
        "'second' takes 'x' from 'frist', which does not exist", "did you mean 'first'?",
    ),
    "unknown output": (
        workflow(call("first"), output=Seq((Ref("first"), Ref("last")))),
        "the output of 'made' is 'last', which does not exist", "known: 'first'",
    ),
    "cycle": (
        workflow(call("a", "c"), call("b", "a"), call("c", "b"), output=Ref("c")),
        "nodes need each other in a cycle: a -> b -> c -> a", "use plait.loop to repeat a step",
    ),
    "cycle of one": (
        workflow(call("a", "a"), output=Ref("a")),
        "nodes need each other in a cycle: a -> a", "use plait.loop to repeat a step",
    ),
    "order": (
        workflow(call("b", "a"), call("a"), output=Ref("b")),
        "'b' stands before 'a', which it needs", "reorder them",
    ),
    "unused": (
        workflow(call("a"), call("b", "a"), call("c"), output=Ref("c")),
        "'b' is computed but its value is never used",
        "return it, pass it on, or delete the call",
    ),
    "empty slot": (
        workflow(call("a", None, prompt=Template((Text("user", (Slot("y"),)),))), output=Ref("a")),
        "the prompt of 'a' has the slot 'y', which nothing fills", "bind it to a value",
    ),
    "missing argument": (
        workflow(Input(id="n", type=int), tool_call("found", limit="n"), output=Ref("found")),
        "'search' misses argument 'query'", "give query=...",
    ),
    "unknown argument": (
        workflow(call("a"), tool_call("found", query="a", page="a"), output=Ref("found")),
        "'search' has no argument 'page'", "its arguments are query, limit",
    ),
    "argument of a wrong type": (
        workflow(call("a"), tool_call("found", query="a", limit="a"), output=Ref("found")),
        "'search' wants int for 'limit'; 'a' is str",
        "a model writes other types when its call is declared to return them",
    ),
    "argument of another wrong type": (
        workflow(Input(id="n", type=int), tool_call("found", query="n"), output=Ref("found")),
        "'search' wants str for 'query'; 'n' is int", "give a value of type str",
    ),
    "map over a text": (
        workflow(call("a"), Map(id="m", body=BODY, item="item", over=Ref("a"), max_width=9,
                                source=Source("made.py", 2)), output=Ref("m")),
        "map goes over a list; 'a' is str", "give a list, or call the operator itself",
    ),
    "map with wrong items": (
        workflow(Input(id="a", type=list[str]),
                 Map(id="m", body=BODY, item="item", over=Ref("a"), max_width=9,
                     source=Source("made.py", 2)), output=Ref("m")),
        "'made' wants int for 'item'; the items are str", "declare the items as int",
    ),
    "map without an input": (
        workflow(Input(id="a", type=list[str]),
                 Map(id="m", body=TWO, item="a", over=Ref("a"), max_width=9,
                     source=Source("made.py", 2)), output=Ref("m")),
        "map over 'made' misses input 'b'", "give b=...",
    ),
    "loop that does not close": (
        workflow(Input(id="a", type=int), Loop(id="l", body=BODY, state=Ref("a"), until=None,
                                               max_iters=2, source=Source("made.py", 2)),
                 output=Ref("l")),
        "'made' wants int for 'item'; loop body 'made' returns str",
        "the result of the body goes in there: give both one type",
    ),
    "no such field": (
        workflow(Input(id="a", type=Facts),
                 Project(id="p", of=Ref("a"), path=("names", "first"), source=Source("made.py", 2)),
                 output=Ref("p")),
        "'a.names' is a list[str] and has no 'first'",
        "take an item, such as [0], or all of them with a map",
    ),
    "no such field of a text": (
        workflow(Input(id="a", type=str),
                 Project(id="p", of=Ref("a"), path=("size",), source=Source("made.py", 2)),
                 output=Ref("p")),
        "'a' is a str and has no 'size'", "declare a type that has it",
    ),
    "no such field in a prompt": (
        workflow(Input(id="a", type=Facts),
                 call("b", "a", prompt=Template((Text("user", (Slot("x", ("nam",)),)),))),
                 output=Ref("b")),
        "'a' is a Facts and has no 'nam'", "it has names, year",
    ),
    "loop over a body of two inputs": (
        workflow(Input(id="a", type=int), Loop(id="l", body=TWO, state=Ref("a"), until=None,
                                               max_iters=2, source=Source("made.py", 2)),
                 output=Ref("l")),
        "'made' must take one argument, the state, to be used in a loop",
        "give it one input that holds all of the state",
    ),
    "output of nothing": (
        workflow(output=Ref("a")),
        "the output of 'made' is 'a', which does not exist", "define a node of this name",
    ),
    "output of another type": (
        workflow(call("a"), output=Ref("a"), kind=int),
        "'made' is declared to return int but returns str",
        "change the annotation or what is returned",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_each_problem_is_found_with_its_place_and_a_hint(name: str) -> None:
    made, message, hint = MADE[name]
    (problem,) = check(made)
    assert problem.hint and (problem.message, problem.hint) == (message, hint)
    assert problem.file == "made.py" and problem.line


def test_all_problems_come_at_once_in_the_order_of_the_source() -> None:
    made = workflow(
        call("a", "nothing", line=9), call("b", "b", line=7), tool_call("c", line=5),
        call("d", line=3, model="huge"), output=Seq((Ref("a"), Ref("b"), Ref("c"))), kind=int,
    )  # fmt: skip
    problems = check(made, models=["default"])
    assert [p.line for p in problems] == [1, 3, 3, 5, 7, 9]
    assert len({p.message for p in problems}) == 6


def test_bodies_of_maps_and_loops_are_checked_too() -> None:
    body = workflow(Input(id="item"), call("vain"), call("inner", "nobody"), output=Ref("inner"))
    node = Map(id="m", body=body, item="item", over=Ref("xs"), max_width=3)
    made = workflow(Input(id="xs", type=list[str]), node, output=Ref("m"))
    assert {p.message.split(",")[0] for p in check(made)} == {
        "'vain' is computed but its value is never used", "'inner' takes 'x' from 'nobody'",
    }  # fmt: skip


def test_unknown_models_are_reported_only_when_models_are_known() -> None:
    @plait.workflow
    def flow(topic: str) -> list[str]:
        return [review(topic, []), review(topic, ["a"]), draft(topic)]

    assert problems_of(flow) == ()
    (problem,) = problems_of(flow, models=["default", "small"])
    assert problem.message == "'review' asks for the unknown model 'big'"
    assert problem.hint == "known: 'default', 'small'"


def test_a_write_tool_is_a_root_and_a_side_of_a_branch_is_used() -> None:
    @plait.workflow
    def flow(topic: str) -> str:
        text = draft(topic)
        send(text)
        return plait.when(good(text), lambda: lookup(topic), "none")

    assert problems_of(flow) == ()


def test_problems_of_compiling_and_of_checking_come_together() -> None:
    @plait.llm
    def shout(text: str) -> str:
        return text.upper()

    @plait.workflow
    def inside(text: str) -> str:
        lookup(text)
        return shout(text)

    @plait.workflow
    def flow(topic: str) -> int:
        plait.map(inside, topic)
        a = draft(topic)
        if a == "x":
            a = draft(a, 1)  # type: ignore[call-arg]
        return {"a": a, "b": shout(topic)}  # type: ignore[return-value]

    found = problems_of(flow)
    assert all(p.hint for p in found)
    assert [p.message for p in found] == [
        "the prompt body calls .upper() on text made from argument 'text' of 'shout'",
        "'lookup' is computed but its value is never used",
        "'flow' is declared to return int but returns dict",
        "map goes over a list; 'topic' is str",
        "'map_inside' is computed but its value is never used",
        "the workflow compares 'draft'",
        "'draft' takes 1 arguments, 2 were given",
    ]


def test_operators_that_a_live_program_names_are_checked() -> None:
    @plait.llm(model="big")
    def shout(text: str) -> str:
        return text.upper()

    @plait.workflow
    async def live(topic: str) -> str:
        await live.acall(topic)
        return await shout.acall(topic)

    messages = [p.message for p in problems_of(live, models=["default"])]
    assert messages == [
        "the prompt body calls .upper() on text made from argument 'text' of 'shout'"
    ]
    assert problems_of(42)[0].message == "42 is not a workflow"


class Plain:
    pass


@dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = "red"


NOT_JSON = [Callable[[int], int], Plain, list[Plain], set[Plain], dict[str, Plain], type, type[int],
            Plain | Callable[..., Any], tuple[int, Plain]]  # fmt: skip
JSON = [str, int, None, Any, object, list, dict, list[str], dict[str, Any], set[int], bytes, Facts,
        Point, Colour, Literal["a"], datetime.datetime, Path, UUID, deque[int], Plain | str,
        tuple[int, ...], BaseModel, frozenset[str]]  # fmt: skip


@pytest.mark.parametrize("kind", NOT_JSON, ids=str)
def test_types_without_a_json_form_are_reported(kind: Any) -> None:
    assert cannot_be_json(kind)
    found = check(workflow(Input(id="a", type=kind), output=Ref("a"), kind=kind))
    taken, given = sorted(problem.message for problem in found)
    assert taken.startswith("input 'a' of 'made' cannot be read from a row: ")
    assert given.startswith("the output of 'made' cannot be written as JSON: ")


def test_a_model_that_is_to_write_what_has_no_json_form_is_reported() -> None:
    @plait.llm
    def guess(topic: str) -> Plain:
        return plait.prompt(plait.user(topic))

    @plait.tool(effect="pure")
    def count(of: Any) -> int:
        return 1

    @plait.workflow
    def flow(topic: str) -> int:
        return count(guess(topic))

    (problem,) = problems_of(flow)
    assert problem.message.startswith("'guess' returns what a model cannot write: Plain is a class")


@pytest.mark.parametrize(
    "value", [object(), b"\xff", float("nan"), lambda: 1, {1: [Plain()]}], ids=repr
)
def test_constants_in_an_output_that_cannot_be_json_are_reported(value: Any) -> None:
    @plait.workflow
    def flow(topic: str) -> Any:
        return {"said": draft(topic), "as well": [value]}

    (problem,) = problems_of(flow)
    assert "the output of 'flow' cannot be written as JSON: " in problem.message


def test_an_async_prompt_body_is_refused_where_it_stands() -> None:
    with pytest.raises(plait.WorkflowError, match=r"test_check.py:\d+: @llm 'slow' is `async def`"):

        @plait.llm
        async def slow(topic: str) -> str:
            return topic


@pytest.mark.parametrize("kind", JSON, ids=str)
def test_types_that_may_have_a_json_form_are_not(kind: Any) -> None:
    assert cannot_be_json(kind) is None


def test_a_branch_with_a_wrong_reference_is_one_problem() -> None:
    node = Branch(id="b", condition=Ref("x"), then=Ref("x"), otherwise=Ref("y"))
    made = workflow(Input(id="x"), node, output=Ref("b"))
    assert [p.message for p in check(made)] == [
        "'b' takes 'otherwise' from 'y', which does not exist"
    ]
