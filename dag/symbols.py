"""Tracing `@llm` bodies: run the body once on symbols and read the template off its result.

A symbol stands for an argument whose value is not known yet. Put into an f-string it leaves a
marker; the text between markers is the static part. A body may move symbols about freely but
must not look at them: truth tests, comparisons, `len`, iteration and methods raise at once, with
the argument's name. What a symbol cannot see (a body that slices or upper-cases the *finished*
text) is caught by tracing twice with markers of different shape, each holding every printable
ASCII character, mixed case, a line break and outer blanks, so that any transformation either
destroys a marker or makes the two templates differ.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .errors import Problem, WorkflowError, first_line
from .messages import Message
from .source import Source, caller, of_function, problem_at
from .template import Part, Path, Slot, Step, Template, Text, is_model

_OPEN, _CLOSE = "\x02", "\x03"
# A line break at the left margin shows dedent(), é shows ascii(), the letters show upper().
_FILLS = (
    f"{string.printable[:95]}é",
    f"\n{string.printable[:95]}é longer, over lines\n\n",
)
HINT = "use @llm(dynamic=True) to render this prompt at run time instead"


class _Markers:
    """The slots met in one trace; a marker is its number between fences, padded by a fill."""

    def __init__(self, fill: str) -> None:
        self.fill = fill
        self.slots: list[Slot] = []

    def mark(self, slot: Slot) -> _Marked:
        self.slots.append(slot)
        text = f" {_OPEN}{self.fill}{len(self.slots) - 1}{_CLOSE} "
        return _Marked(text, slot, self)

    def split(self, text: str) -> tuple[Part, ...]:
        """Static parts and slots of a finished text; raises ValueError if a marker is damaged."""
        fence = re.escape(f" {_OPEN}{self.fill}")
        pieces = re.split(rf"{fence}(\d+){_CLOSE} ", "".join((text, "")))
        parts: list[Part] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                parts.append(self.slots[int(piece)])
            elif _OPEN in piece or _CLOSE in piece or self.fill[1:90] in piece:
                raise ValueError("text made from an argument was changed after it was formatted")
            elif piece:
                parts.append(piece)
        return tuple(parts)


def _needs_value(what: str) -> Callable[..., NoReturn]:
    def method(self: Any, *_: Any, **__: Any) -> NoReturn:
        slot = self._slot
        raise WorkflowError(
            problem_at(caller(), f"the prompt body {what} argument {str(slot)[1:-1]!r}", HINT)
        )

    return method


_FORBIDDEN = {
    "__bool__": "tests the truth of", "__len__": "takes the length of", "__iter__": "iterates over",
    "__contains__": "searches in", "__eq__": "compares", "__ne__": "compares", "__lt__": "compares",
    "__le__": "compares", "__gt__": "compares", "__ge__": "compares", "__hash__": "hashes",
    "__mul__": "computes with", "__rmul__": "computes with", "__mod__": "computes with",
    "__int__": "converts", "__float__": "converts", "__index__": "converts",
}  # fmt: skip
_ARITHMETIC = ("sub", "rsub", "truediv", "rtruediv", "floordiv", "rfloordiv", "pow", "neg", "abs")
# What a finished text may still be asked: joining keeps markers whole.
_TEXT_METHODS = tuple(
    name for name in dir(str)
    if not name.startswith("_") and name not in ("join", "format", "encode")
)  # fmt: skip


class _Marked(str):
    """`str(symbol)`: a text that is one marker. It can be joined to other texts, not looked at."""

    _slot: Slot
    _markers: _Markers

    def __new__(cls, text: str, slot: Slot, markers: _Markers) -> _Marked:
        marked = super().__new__(cls, text)
        marked._slot, marked._markers = slot, markers
        return marked

    def __format__(self, spec: str) -> str:
        if not spec:
            return self
        slot = self._slot
        if slot.spec:
            raise WorkflowError(problem_at(caller(), f"{slot} is formatted twice", HINT))
        conversion = slot.conversion or "s"
        return self._markers.mark(Slot(slot.name, slot.path, conversion, spec))

    def __str__(self) -> str:
        return self

    __repr__ = _needs_value("takes repr() of text made from")
    __getitem__ = _needs_value("takes a part of")


class Symbol:
    """An argument of a prompt body while it is traced."""

    __slots__ = ("_slot", "_type", "_markers")

    def __init__(self, slot: Slot, kind: Any, markers: _Markers) -> None:
        self._slot, self._type, self._markers = slot, kind, markers

    def _mark(self, conversion: str, spec: str = "") -> _Marked:
        return self._markers.mark(Slot(self._slot.name, self._slot.path, conversion, spec))

    def __format__(self, spec: str) -> str:
        return self._mark("", spec)

    def __str__(self) -> str:
        return self._mark("s")

    def __repr__(self) -> str:
        return self._mark("r")

    def __add__(self, other: Any) -> str:
        return self._joined() + other if isinstance(other, str) else _needs_value("adds to")(self)

    def __radd__(self, other: Any) -> str:
        return other + self._joined() if isinstance(other, str) else _needs_value("adds to")(self)

    def _joined(self) -> str:
        # "a" + x works on values only when x is a text.
        return self._mark("s") if self._type is str else _needs_value("adds text to")(self)

    def __getattr__(self, name: str) -> Symbol:
        fields = self._type.model_fields if is_model(self._type) else None
        if name.startswith("__") or (fields is not None and name not in fields):
            raise AttributeError(name)
        if self._type in (str, int, float, bool, bytes, list, dict):
            _needs_value(f"calls .{name} of")(self)
        return self._below(name, fields[name].annotation if fields is not None else Any)

    def __getitem__(self, key: Step) -> Symbol:
        if isinstance(key, bool) or not isinstance(key, str | int) or self._type is str:
            _needs_value("takes a part of")(self)
        return self._below(key, Any)

    def _below(self, step: Step, kind: Any) -> Symbol:
        path: Path = (*self._slot.path, step)
        return Symbol(Slot(self._slot.name, path), kind, self._markers)


for _name, _what in _FORBIDDEN.items():
    setattr(Symbol, _name, _needs_value(_what))
    if _name != "__mod__":
        setattr(_Marked, _name, _needs_value(_what))
for _name in _ARITHMETIC:
    setattr(Symbol, f"__{_name}__", _needs_value("computes with"))
for _name in _TEXT_METHODS:
    setattr(_Marked, _name, _needs_value(f"calls .{_name}() on text made from"))


def capture(name: str, body: Callable[..., Any], types: Mapping[str, Any]) -> Template:
    """The template of a prompt body, found by tracing it twice.

    `types` gives the annotation of every argument. Raises WorkflowError naming the argument when
    the body looks at a value, and when it returns something that is not a prompt.
    """
    source = of_function(body)
    first, second = (_trace(name, body, types, fill, source) for fill in _FILLS)
    if first != second:
        message = f"the prompt body of {name!r} changes text made from its arguments"
        raise WorkflowError(problem_at(source, message, HINT, name))
    return first


def _trace(
    name: str, body: Callable[..., Any], types: Mapping[str, Any], fill: str, source: Source | None
) -> Template:
    markers = _Markers(fill)
    symbols = {arg: Symbol(Slot(arg), kind, markers) for arg, kind in types.items()}
    try:
        return to_template(body(**symbols), markers.split)
    except WorkflowError as error:
        raise WorkflowError(*(_named(p, name) for p in error.problems)) from None
    except Exception as error:
        message = f"the prompt body of {name!r} cannot be traced: {first_line(error)}"
        raise WorkflowError(problem_at(source, message, HINT, name)) from error


def _named(problem: Problem, name: str) -> Problem:
    return Problem(
        f"{problem.message} of {name!r}",
        problem.file,
        problem.line,
        problem.hint,
        problem.node or name,
    )


def to_template(prompt: Any, split: Callable[[str], tuple[Part, ...]]) -> Template:
    """A template from what a body returned; `split` finds the slots in a text."""
    if isinstance(prompt, str | Symbol):
        return Template((Text("user", split(_content(prompt))),), bare=True)
    if isinstance(prompt, Message):
        prompt = [prompt]
    if isinstance(prompt, list | tuple) and prompt and all(isinstance(m, Message) for m in prompt):
        return Template(tuple(Text(m.role, split(_content(m.content))) for m in prompt))
    raise TypeError(f"it returns {type(prompt).__name__}, not a str or a list of messages")


def _content(text: Any) -> str:
    if isinstance(text, Symbol):
        if text._type not in (str, Any):
            raise TypeError(f"a message is text: write f'{str(text._slot)}' to format the value")
        return format(text)
    if not isinstance(text, str):
        raise TypeError(f"a message is text, not {type(text).__name__}")
    return text
