"""`@tool`: what the decorator makes, refuses and tells a model."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

import plait
from plait import WorkflowError, tool, workflow
from plait.dag.arg import Ref
from plait.dag.live import PROGRAM
from plait.dag.nodes import ToolCall
from plait.tools.tool import Tool


class Place(BaseModel):
    city: str
    zip: int = 0


@tool(effect="pure")
def double(x: int) -> int:
    """Twice a number."""
    return 2 * x


@tool
async def fetch(place: Place, limit: Annotated[int, Field(description="at most", ge=1)] = 3) -> str:
    return f"{place.city}:{limit}"


def test_a_call_outside_a_workflow_is_the_plain_function() -> None:
    assert double(4) == 8
    coroutine: Any = fetch(Place(city="Bern"))
    assert asyncio.run(coroutine) == "Bern:3"


def test_a_call_in_a_workflow_is_a_node() -> None:
    @workflow
    def flow(n: int) -> int:
        return double(double(n))

    first, second = list(flow.workflow.nodes.values())[1:]
    assert isinstance(first, ToolCall) and isinstance(second, ToolCall)
    assert first.tool is double.spec and first.tool.run is double
    assert second.bound == (("x", Ref("double")),)
    assert first.type is int


def test_the_node_of_an_async_tool_has_the_awaited_type() -> None:
    @tool
    def later(x: int) -> Awaitable[str]:
        raise NotImplementedError

    @workflow
    def flow(place: Place) -> str:
        return fetch(place)

    assert flow.workflow.nodes["fetch"].type is str
    assert later.is_async and later.returns is str


def test_a_direct_call_in_a_live_program_is_refused() -> None:
    token = PROGRAM.set(object())  # type: ignore[arg-type]
    try:
        with pytest.raises(WorkflowError, match=r"await double\.acall"):
            double(4)
    finally:
        PROGRAM.reset(token)


def test_a_type_checker_sees_the_function() -> None:
    number: int = double(1)

    async def live() -> str:
        return await fetch.acall(Place(city="Bern"))

    typed: Tool[[int], int] = double
    assert (number, typed, live.__name__) == (2, double, "live")


def test_defaults_and_options() -> None:
    assert (fetch.effect, fetch.timeout, fetch.retries) == ("write", 60.0, 0)
    given = tool(effect="read", timeout=2, retries=3, name="other", max_output=10)(double.fn)
    assert (given.name, given.effect, given.timeout, given.retries) == ("other", "read", 2, 3)
    assert given.spec.name == "other" and given.max_output == 10


def test_the_schema_and_description_a_model_reads() -> None:
    assert double.spec.as_function() == {
        "type": "function",
        "function": {
            "name": "double",
            "description": "Twice a number.",
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "required": ["x"],
                "additionalProperties": False,
            },
        },
    }


def test_the_schema_of_models_constraints_and_defaults() -> None:
    schema = fetch.spec.parameters
    assert schema["required"] == ["place"]
    assert schema["properties"]["limit"] == {
        "type": "integer", "minimum": 1, "description": "at most", "default": 3,
    }  # fmt: skip
    assert schema["properties"]["place"] == {"$ref": "#/$defs/Place"}
    assert set(schema["$defs"]["Place"]["properties"]) == {"city", "zip"}


def test_arguments_may_have_any_name() -> None:
    @tool
    def odd(json: str, schema: int, model_config: str, _hidden: int = 1) -> None: ...

    assert list(odd.spec.parameters["properties"]) == ["json", "schema", "model_config", "_hidden"]


def test_a_write_tool_with_retries_is_refused_unless_idempotent() -> None:
    def send(text: str) -> None: ...

    with pytest.raises(WorkflowError, match="could write twice.*idempotent=True"):
        tool(retries=1)(send)
    assert tool(retries=1, idempotent=True)(send).retries == 1
    assert tool(retries=1, effect="read")(send).retries == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effect": "none"}, "has effect='none'"),
        ({"timeout": 0}, "has timeout=0"),
        ({"timeout": float("nan")}, "has timeout=nan"),
        ({"timeout": None}, "has timeout=None"),
        ({"retries": -1}, "has retries=-1"),
        ({"retries": 1.5}, "has retries=1.5"),
        ({"retries": True}, "has retries=True"),
        ({"max_output": 0}, "has max_output=0"),
        ({"name": "two words"}, "needs a name"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowError, match=message) as caught:
        tool(**options)(double.fn)
    (problem,) = caught.value.problems
    assert problem.file == __file__ and problem.hint


class Opaque:
    pass


def opaque_argument(x: Opaque) -> int:
    raise NotImplementedError


def opaque_result(x: int) -> Opaque:
    raise NotImplementedError


def takes_a_function(f: Callable[[], int]) -> int:
    raise NotImplementedError


def star(*x: int) -> int:
    raise NotImplementedError


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (opaque_argument, "argument 'x' of tool 'opaque_argument' is Opaque"),
        (opaque_result, "the result of tool 'opaque_result' is Opaque"),
        (takes_a_function, "has no JSON schema"),
        (star, "arguments of an operator need names"),
        (generator, "is a generator"),
        (async_generator, "is a generator"),
        (lambda: 1, "needs a name"),
        (Opaque, "takes a function"),
        (double, "takes a function"),
        (3, "takes a function"),
    ],
)
def test_what_cannot_be_a_tool(fn: Any, message: str) -> None:
    with pytest.raises(WorkflowError, match=message) as caught:
        tool(fn)
    assert caught.value.problems[0].line and caught.value.problems[0].hint


def test_tool_is_part_of_the_face() -> None:
    assert plait.tool is tool and "tool" in plait.__all__
