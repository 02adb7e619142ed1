"""What crosses a tool's border: arguments in the declared types, results that are JSON."""

import dataclasses
import datetime as dt
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from plait import OutputError, ToolError, tool
from plait.tools.runner import run_tool
from plait.tools.tool import Tool


class Place(BaseModel):
    city: str
    tags: list[str] = []


class Renamed(BaseModel):
    city: str = Field(alias="cityName")


class Loose(BaseModel):
    value: Any


@dataclasses.dataclass
class Point:
    x: int
    y: int


@tool
def visit(place: Place, when: dt.date | None = None, mode: Literal["a", "b"] = "a") -> str:
    return f"{type(place).__name__} {place.city} {when!r} {mode}"


async def test_json_becomes_the_declared_type() -> None:
    given = {"place": {"city": "Bern"}, "when": "2024-02-03"}
    assert await run_tool(visit, given, node="n") == "Place Bern datetime.date(2024, 2, 3) a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"place": {"town": "x"}}, r"argument 'place' .* is not Place: at \.city, Field required"),
        ({"place": 3}, r"argument 'place' .* is not Place: at its root, .* \(it is 3\)"),
        ({"place": {"city": 3}}, r"\.city, Input should be a valid string \(it is 3\)"),
        ({"place": {"city": "x"}, "mode": "c"}, "argument 'mode' .* is not Literal"),
        ({"place": {"city": "x", "tags": [1]}}, r"at \.tags\[0\]"),
        ({}, "misses argument 'place'"),
        ({"place": {"city": "x"}, "zip": 1}, "has no argument 'zip': its arguments are 'place'"),
    ],
)
async def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        await run_tool(visit, arguments, node="stop_3")
    assert caught.value.node == "stop_3" and "\n" not in str(caught.value)


async def test_long_values_are_cut_in_errors() -> None:
    @tool
    def number(x: int) -> None: ...

    with pytest.raises(OutputError) as caught:
        await run_tool(number, {"x": "y" * 100_000}, node="n")
    assert len(str(caught.value)) < 400


async def test_a_bool_is_not_taken_for_a_string_nor_a_number_for_text() -> None:
    @tool
    def text(x: str) -> str:
        return x

    for wrong in (True, 3, None, ["a"]):
        with pytest.raises(OutputError, match="argument 'x'"):
            await run_tool(text, {"x": wrong}, node="n")


async def test_a_default_is_taken_as_it_stands() -> None:
    @tool
    def loose(x: int = None) -> bool:  # type: ignore[assignment]
        return x is None

    assert await run_tool(loose, {}, node="n") is True
    assert await run_tool(loose, {"x": None}, node="n") is True


async def test_a_validator_that_raises_oddly_is_an_error_of_the_row() -> None:
    class Odd(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def check(cls, value: int) -> int:
            raise RuntimeError("odd")

    @tool
    def takes(odd: Odd) -> None: ...

    with pytest.raises(ToolError, match="RuntimeError: odd"):
        await run_tool(takes, {"odd": {"x": 1}}, node="n")


async def test_a_tool_cannot_change_its_callers_values() -> None:
    @tool
    def spoils(plain: Any, nested: dict[str, Any], place: Place) -> None:
        plain["a"].append(1)
        nested["b"]["c"] = 2
        place.tags.append("x")

    values = {"plain": {"a": []}, "nested": {"b": {}}, "place": Place(city="Bern")}
    await run_tool(spoils, values, node="n")
    assert values == {"plain": {"a": []}, "nested": {"b": {}}, "place": Place(city="Bern")}


async def test_a_tool_cannot_change_a_result_it_has_given() -> None:
    kept: list[Any] = []

    @tool
    def keeps() -> list[Any]:
        kept.append([1])
        return kept[-1]  # type: ignore[no-any-return]

    result = await run_tool(keeps, {}, node="n")
    kept[0].append(2)
    assert result == [1]


# -- results -----------------------------------------------------------------------------------


def returning(value: Any, returns: Any = Any, **options: Any) -> Tool[[], Any]:
    def give() -> Any:
        return value

    give.__annotations__["return"] = returns
    return tool(**options)(give)


@pytest.mark.parametrize(
    ("value", "returns", "expected"),
    [
        ("text", str, "text"),
        (None, None, None),
        (5, float, 5.0),
        ({"city": "Bern"}, Place, Place(city="Bern")),
        (Place(city="Bern"), Any, {"city": "Bern", "tags": []}),
        (Point(1, 2), Point, Point(1, 2)),
        (Point(1, 2), Any, {"x": 1, "y": 2}),
        ((1, "a"), tuple[int, str], (1, "a")),
        ((1, "a"), Any, [1, "a"]),
        ({3}, set[int], {3}),
        ({1: "a"}, dict[int, str], {1: "a"}),
        (dt.date(2024, 2, 3), dt.date, dt.date(2024, 2, 3)),
        (dt.date(2024, 2, 3), Any, "2024-02-03"),
        (Renamed(cityName="Bern"), Renamed, Renamed(cityName="Bern")),
        ([None, "null"], list[str | None], [None, "null"]),
        (10**30, int, 10**30),
        ("é" * 10, str, "é" * 10),
    ],
)
async def test_a_result_is_what_its_json_says(value: Any, returns: Any, expected: Any) -> None:
    result = await run_tool(returning(value, returns), {}, node="n")
    assert result == expected and type(result) is type(expected)


loop: list[Any] = []
loop.append(loop)
deep: list[Any] = []
for _ in range(100_000):
    deep = [deep]


@pytest.mark.parametrize(
    ("value", "returns"),
    [
        (float("nan"), Any),
        (float("inf"), float),
        (float("nan"), float | None),
        ([1.0, float("nan")], Any),
        ({"a": {"b": float("-inf")}}, dict[str, Any]),
        ({object()}, Any),
        (Loose(value=float("nan")), Loose),
        (print, Any),
        (object(), Any),
        ([object()], list[Any]),
        (loop, Any),
        (loop, list[Any]),
        (deep, Any),
        ("\ud800", str),
        (b"\xff", Any),
        (10**5000, int),
    ],
    ids=lambda v: str(v)[:20] if not isinstance(v, list | int) else type(v).__name__,
)
async def test_a_result_that_is_not_json(value: Any, returns: Any) -> None:
    with pytest.raises(OutputError, match="the result of tool 'give' cannot be written as JSON"):
        await run_tool(returning(value, returns), {}, node="n")


@pytest.mark.parametrize(
    ("value", "returns", "message"),
    [
        ("five", int, r"is not int: at its root, .* \(it is 'five'\)"),
        (5, str, r"is not str: .* \(it is 5\)"),
        (None, str, "is not str"),
        ({"a": ["x"]}, dict[str, list[int]], r"at \.a\[0\]"),
    ],
)
async def test_a_result_of_another_type(value: Any, returns: Any, message: str) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        await run_tool(returning(value, returns), {}, node="where")
    assert caught.value.node == "where"


@pytest.mark.parametrize("value", ["x" * 99, "é" * 50, ["x" * 97]])
async def test_a_result_over_its_limit(value: Any) -> None:
    with pytest.raises(OutputError, match=r"takes 10\d bytes of JSON; at most 100 .*max_output"):
        await run_tool(returning(value, max_output=100), {}, node="n")
    assert await run_tool(returning(value, max_output=102), {}, node="n") == value


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abé"), inner),
    max_leaves=20,
)  # fmt: skip


@given(json)
def test_json_values_pass_unchanged(value: Any) -> None:
    @tool
    def same(x: Any) -> Any: ...

    assert same.result.check(same.arguments.read({"x": value})["x"]) == value
