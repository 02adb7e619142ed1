"""`calculator`: arithmetic on a text, exact for integers, bounded in every direction.

A small recursive-descent parser that computes as it reads; nothing is ever evaluated as Python.

    sum    = term (("+" | "-") term)*
    term   = signed (("*" | "/" | "//" | "%") signed)*
    signed = ("+" | "-") signed | power
    power  = atom ("**" signed)?            so -2 ** 2 is -4 and 2 ** -1 is 0.5, as in Python
    atom   = number | "(" sum ")"

Bounds: the text, the nesting, and the digits of every intermediate result, checked *before* the
operation that would produce them, so that `9 ** 9 ** 9` costs nothing.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from ..dag.errors import ToolError
from .tool import tool

MAX_TEXT = 1_000
MAX_DEPTH = 50
MAX_DIGITS = 1_000
"""Decimal digits of an integer, result or intermediate."""
_MAX_BITS = int(MAX_DIGITS * math.log2(10))

Number = int | float
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|(\*\*|//|\S))", re.ASCII)
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
_SAME_AS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


@tool(effect="pure", timeout=5)
def calculator(expression: str) -> int | float:
    """Compute an arithmetic expression, for example "12 * (3 + 4) / 2".

    Knows + - * / // % ** and parentheses. Integers stay exact.
    """
    return evaluate(expression)


def evaluate(expression: str) -> Number:
    """The value of an arithmetic expression; raises ToolError saying what is wrong and where.

    An integer whenever the operands are and the division leaves no rest: "12 / 4" is 3, "7 / 2"
    is 3.5.
    """
    if len(expression) > MAX_TEXT:
        raise ToolError(f"the expression has {len(expression)} characters; {MAX_TEXT} are allowed")
    return _Parser(expression).whole()


class _Parser:
    """Reads one expression; `token` is the next one, "" at the end."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.text = _GROUPED.sub(lambda m: m[0].replace(",", ""), expression).translate(_SAME_AS)
        self.end = self.depth = 0
        self.token, self.is_number = "", False
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.end)
        if match is None:
            self.token, self.is_number = "", False
            return
        self.end = match.end()
        self.token, self.is_number = match[1] or match[2], match[1] is not None

    def taken(self, *symbols: str) -> str | None:
        """The next token if it is one of these, which is then consumed."""
        token = self.token
        if self.is_number or token not in symbols:
            return None
        self.advance()
        return token

    def whole(self) -> Number:
        value = self.sum()
        if self.token:
            raise self.unexpected("an operator")
        return value

    def sum(self) -> Number:
        value = self.term()
        while symbol := self.taken("+", "-"):
            value = _apply(symbol, value, self.term())
        return value

    def term(self) -> Number:
        value = self.signed()
        while symbol := self.taken("*", "/", "//", "%"):
            value = _apply(symbol, value, self.signed())
        return value

    def signed(self) -> Number:
        negative = False
        while symbol := self.taken("+", "-"):
            negative ^= symbol == "-"
        value = self.power()
        return -value if negative else value

    def power(self) -> Number:
        base = self.atom()
        if not self.taken("**"):
            return base
        self.nest()
        value = _apply("**", base, self.signed())
        self.depth -= 1
        return value

    def atom(self) -> Number:
        if self.is_number:
            value = _number(self.token)
            self.advance()
            return value
        if not self.taken("("):
            raise self.unexpected("a number")
        self.nest()
        value = self.sum()
        if not self.taken(")"):
            raise self.unexpected("')'")
        self.depth -= 1
        return value

    def nest(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ToolError(f"the expression is nested more than {MAX_DEPTH} deep")

    def unexpected(self, wanted: str) -> ToolError:
        found = {"": "the end", "^": "'^' (write ** for a power)"}.get(self.token, repr(self.token))
        return ToolError(f"{self.expression[:80]!r}: expected {wanted}, found {found}")


def _number(text: str) -> Number:
    if text.isdigit():
        if len(text) > MAX_DIGITS:
            raise _too_large()
        return int(text)
    return _checked(float(text))


def _apply(symbol: str, left: Number, right: Number) -> Number:
    """One operation, refused when its result would be too large to compute or to write."""
    if symbol in ("/", "//", "%") and right == 0:
        raise ToolError(f"division by zero: {_short(left)} {symbol} 0")
    if isinstance(left, int) and isinstance(right, int):
        if _bits(symbol, left, right) > _MAX_BITS:
            raise _too_large()
        if symbol == "/" and left % right == 0:
            return left // right
    try:
        return _checked(_OPERATIONS[symbol](left, right))
    except ZeroDivisionError:
        raise ToolError(f"zero cannot be raised to the power {_short(right)}") from None
    except OverflowError:
        raise _too_large() from None


_OPERATIONS: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def _bits(symbol: str, left: int, right: int) -> int:
    """Bits that the result of an operation on integers may take, at most."""
    if symbol == "*":
        return left.bit_length() + right.bit_length()
    if symbol == "**" and right > 0 and abs(left) > 1:
        if right > _MAX_BITS:
            return right  # at least a bit for each
        return int(math.log2(abs(left)) * right)
    return max(left.bit_length(), right.bit_length())


def _checked(value: Number | complex) -> Number:
    if isinstance(value, complex):
        raise ToolError("a negative number has no real fractional power")
    if isinstance(value, float) and not math.isfinite(value):
        raise _too_large()
    return value


def _too_large() -> ToolError:
    return ToolError(f"a number grows too large: {MAX_DIGITS} digits are allowed")


def _short(value: Number) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:17]}..."
