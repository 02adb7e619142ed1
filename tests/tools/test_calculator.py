"""The calculator: the arithmetic of Python, without Python."""

import re
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plait import ToolError
from plait.tools import calculator
from plait.tools.calculator import MAX_DEPTH, evaluate
from plait.tools.runner import run_tool


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * 4", 48),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("7 - 2 - 1", 4),
        ("7 / 2", 3.5),
        ("12 / 4", 3),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("--3 + +4", 7),
        (".5 + 1.", 1.5),
        ("1.5e3", 1500.0),
        ("1,250 * 2", 2500),
        ("6 × 7 − 2 ÷ 1", 40),
        ("  3\n+\t4 ", 7),
        ("10 ** 900 // 10 ** 899", 10),
        ("123456789123456789 * 987654321", 123456789123456789 * 987654321),
        ("1000000000000000000002 / 2", 500000000000000000001),
    ],
)
def test_values(expression: str, value: Any) -> None:
    result = evaluate(expression)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "expected a number, found the end"),
        ("2 +", "expected a number, found the end"),
        ("(2", r"expected '\)', found the end"),
        ("2)", r"expected an operator, found '\)'"),
        ("2 3", "expected an operator, found '3'"),
        ("2 ^ 3", r"found '\^' \(write \*\* for a power\)"),
        ("1 / 0", "division by zero: 1 / 0"),
        ("1 // 0", "division by zero"),
        ("1.5 % 0", "division by zero"),
        ("0 ** -1", "zero cannot be raised to the power -1"),
        ("(-8) ** 0.5", "no real fractional power"),
        ("__import__('os')", "expected a number, found '_'"),
        ("x + 1", "found 'x'"),
        ("1,2", "found ','"),
        ("٣ + 1", "found '٣'"),
        ("9 ** 9 ** 9", "grows too large"),
        ("9.0 ** 9999", "grows too large"),
        ("2 ** 10 ** 400", "grows too large"),
        ("10 ** 500 / 3", "grows too large"),
        ("1e999", "grows too large"),
        ("9" * 1000 + "9" * 10, "has 1010 characters"),
        ("2 * " + "9" * 980 + " * 10 ** 99", "grows too large"),
        ("(" * 60 + "1" + ")" * 60, "nested more than 50 deep"),
        ("**".join(["1"] * 60), "nested more than 50 deep"),
    ],
)
def test_errors(expression: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        evaluate(expression)


def test_a_bomb_costs_nothing() -> None:
    begun = time.perf_counter()
    for bomb in ("9 ** 9 ** 9 ** 9", "10 ** 999 ** 99", "*".join(["9" * 90] * 10)):
        try:
            evaluate(bomb)
        except ToolError:
            continue
    assert time.perf_counter() - begun < 0.1


def test_depth_is_allowed_up_to_its_bound() -> None:
    assert evaluate("(" * MAX_DEPTH + "7" + ")" * MAX_DEPTH) == 7


async def test_it_is_a_pure_tool() -> None:
    assert calculator("2 + 2") == 4
    assert calculator.effect == "pure"
    assert await run_tool(calculator, {"expression": "12 * 4"}, node="n") == 48
    with pytest.raises(ToolError, match="^'2 \\+': expected a number") as caught:
        await run_tool(calculator, {"expression": "2 +"}, node="sums")
    assert caught.value.node == "sums"


numbers = st.integers(0, 10**6).map(str) | st.floats(0, 1e6).map(lambda f: f"{f:.3f}")
symbols = st.sampled_from(["+", " - ", "*", " / ", "//", " % "])
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", " - ", "*", " / ", "//", " % "]), inner).map(
            "".join
        ),
        inner.map(lambda e: f"({e})"),
        inner.map(lambda e: f"-{e}"),
        st.tuples(inner, st.integers(0, 3)).map(lambda t: f"({t[0]}) ** {t[1]}"),
    ),
    max_leaves=12,
)


class Exact:
    """Python's own arithmetic, but an even division of integers stays an integer."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __truediv__(self, other: Any) -> "Exact":
        a, b = self.value, other.value
        even = isinstance(a, int) and isinstance(b, int) and a % b == 0
        return Exact(a // b if even else a / b)

    def __add__(self, other: Any) -> "Exact":
        return Exact(self.value + other.value)

    def __sub__(self, other: Any) -> "Exact":
        return Exact(self.value - other.value)

    def __mul__(self, other: Any) -> "Exact":
        return Exact(self.value * other.value)

    def __floordiv__(self, other: Any) -> "Exact":
        return Exact(self.value // other.value)

    def __mod__(self, other: Any) -> "Exact":
        return Exact(self.value % other.value)

    def __pow__(self, other: Any) -> "Exact":
        return Exact(self.value**other.value)

    def __neg__(self) -> "Exact":
        return Exact(-self.value)


@given(expressions)
def test_generated_expressions_agree_with_python(expression: str) -> None:
    try:
        expected = eval(re.sub(r"[\d.]+", r"Exact(\g<0>)", expression)).value
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(ToolError):
            evaluate(expression)
    else:
        try:
            result = evaluate(expression)
        except ToolError as error:
            assume("too large" not in str(error) and "nested" not in str(error))
            raise
        assert result == expected and type(result) is type(expected)


@given(st.text("0123456789+-*/%(). eE^,x", max_size=40) | st.text(max_size=40))
def test_any_text_gives_a_number_or_a_tool_error(text: str) -> None:
    try:
        assert isinstance(evaluate(text), int | float)
    except ToolError as error:
        assert "\n" not in str(error)
