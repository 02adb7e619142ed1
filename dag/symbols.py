"""Symbols: arguments of a prompt body whose values are not known yet.

Put into a text, a symbol leaves a marker; the text between markers is the static part of the
template. A body may move symbols about freely but must not look at them: truth tests, comparisons,
`len`, iteration and methods are noted as problems, with the argument's name and the line, and the
body goes on with some value, to find what else is wrong.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from .errors import Problem, WorkflowError
from .source import caller, crowded, problem_at
from .template import Part, Path, Slot, Step, is_model
from .types import field_type, plain_type, type_name

HINT = "use @llm(dynamic=True) to render this prompt at run time instead"
_OPEN, _CLOSE = "\x02", "\x03"
# Every printable ASCII character, mixed case and outer blanks: a transformation of the finished
# text either destroys a marker or gives two different templates for the two fills. A line break
# at the left margin shows dedent(), é shows ascii().
FILLS = (
    f"{string.printable[:95]}é",
    f"\n{string.printable[:95]}é longer, over lines\n\n",
)


class Markers:
    """The slots met in one run of a body, and what it did wrong. A marker is the number of its
    slot between fences, padded by a fill."""

    def __init__(self, fill: str) -> None:
        self.fill = fill
        self.slots: list[Slot] = []
        self.problems: list[Problem] = []

    def argument(self, slot: Slot, kind: Any) -> Any:
        """What stands for a value of this type: a text for texts, else a symbol."""
        return self.mark(slot, raw=True) if _is_text(kind) else Symbol(slot, kind, self)

    def mark(self, slot: Slot, raw: bool = False) -> Marked:
        self.slots.append(slot)
        text = f" {_OPEN}{self.fill}{len(self.slots) - 1}{_CLOSE} "
        return Marked(text, slot, self, raw)

    def split(self, text: str) -> tuple[Part, ...]:
        """Static parts and slots of a finished text; raises ValueError if a marker is damaged."""
        fence = re.escape(f" {_OPEN}{self.fill}")
        pieces = re.split(rf"{fence}(\d+){_CLOSE} ", "".join((text, "")))
        parts: list[Part] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                parts.append(self.slots[int(piece)])
            elif _OPEN in piece or _CLOSE in piece or self.fill[1:90] in piece:
                raise ValueError("text made from an argument is changed after it was formatted")
            elif piece:
                parts.append(piece)
        return tuple(parts)

    def misuse(self, what: str, slot: Slot, hint: str = HINT) -> None:
        """Note a look at a value. Many on one line end the run, as the code there is a loop that
        waits for a value."""
        message = f"the prompt body {what} argument {str(slot)[1:-1]!r}"
        problem = problem_at(caller(), message, hint)
        self.problems.append(problem)
        if crowded(self.problems):
            raise WorkflowError(problem)


def _is_text(kind: Any) -> bool:
    kind = plain_type(kind)
    if get_origin(kind) is Literal:
        return all(type(value) is str for value in get_args(kind))
    return kind is str


Instead = Callable[[Any], Any]


def _needs_value(what: str, instead: Instead | None = None) -> Callable[..., Any]:
    def method(self: Any, *_: Any, **__: Any) -> Any:
        self._markers.misuse(what, self._slot)
        if instead is None:
            raise WorkflowError(*self._markers.problems)
        return instead(self)

    return method


class Marked(str):
    """A text that is one marker. It can be joined to other texts, not looked at."""

    _slot: Slot
    _markers: Markers
    _raw: bool
    """Whether it stands for the argument itself; else for text already made from it."""

    def __new__(cls, text: str, slot: Slot, markers: Markers, raw: bool) -> Marked:
        marked = super().__new__(cls, text)
        marked._slot, marked._markers, marked._raw = slot, markers, raw
        return marked

    def __format__(self, spec: str) -> str:
        if not spec:
            return self
        slot = self._slot
        if slot.spec:
            self._markers.misuse("formats twice the", slot)
            return self
        conversion = slot.conversion or ("" if self._raw else "s")
        return _formatted(self._markers, slot, conversion, spec)

    def __str__(self) -> str:
        return self._again("s") if self._raw else self

    def __repr__(self) -> str:
        if not self._raw:
            self._markers.misuse("takes repr() of text made from", self._slot)
        return self._again("r")

    def _again(self, conversion: str) -> str:
        return self._markers.mark(Slot(self._slot.name, self._slot.path, conversion))


class Symbol:
    """An argument of a prompt body that is not a text."""

    __slots__ = ("_slot", "_type", "_markers")

    def __init__(self, slot: Slot, kind: Any, markers: Markers) -> None:
        self._slot, self._type, self._markers = slot, plain_type(kind), markers

    def __format__(self, spec: str) -> str:
        return _formatted(self._markers, self._slot, "", spec)

    def __str__(self) -> str:
        return _formatted(self._markers, self._slot, "s", "")

    def __repr__(self) -> str:
        return _formatted(self._markers, self._slot, "r", "")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if is_model(self._type) and name not in self._type.model_fields:
            if not hasattr(self._type, name):
                message = f"takes .{name}, which {type_name(self._type)} has not, of"
                self._markers.misuse(message, self._slot, f"it has {_fields(self._type)}")
                return self
            if not isinstance(getattr(self._type, name), property):
                return self._method(name)
        elif get_origin(self._type) or self._type in (int, float, bool, bytes, list, dict):
            return self._method(name)
        return self._below(name)

    def _method(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: _needs_value(f"calls .{name}() of", lambda self: self)(self)

    def __getitem__(self, key: Step) -> Any:
        if isinstance(key, bool) or not isinstance(key, str | int) or isinstance(key, Marked):
            self._markers.misuse("takes a part of", self._slot)
            return self
        return self._below(key)

    def _below(self, step: Step) -> Any:
        path: Path = (*self._slot.path, step)
        try:
            kind = field_type(self._type, step)
        except KeyError:
            kind = Any
        return self._markers.argument(Slot(self._slot.name, path), kind)


def _formatted(markers: Markers, slot: Slot, conversion: str, spec: str) -> str:
    if _OPEN in spec:
        markers.misuse("formats with a width or precision from another argument the", slot)
        spec = ""
    return markers.mark(Slot(slot.name, slot.path, conversion, spec))


def _fields(model: Any) -> str:
    return ", ".join(model.model_fields)


_same: Instead = lambda self: self  # noqa: E731
_true: Instead = lambda _: True  # noqa: E731
_LOOKS: dict[str, tuple[str, Instead | None]] = {
    "__bool__": ("tests the truth of", _true),
    "__len__": ("takes the length of", lambda _: 1),
    "__iter__": ("iterates over", lambda self: iter([self])),
    "__contains__": ("searches in", _true),
    **{f"__{op}__": ("compares", _true) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    "__hash__": ("hashes", lambda self: str.__hash__(str(self._slot))),
    "__mul__": ("repeats or computes with", _same),
    "__rmul__": ("repeats or computes with", _same),
    **{f"__{kind}__": ("converts", None) for kind in ("int", "float", "index")},
}
_ARITHMETIC = ("add", "sub", "mod", "truediv", "floordiv", "pow", "and", "or")
# A finished text may be joined to others; anything else would look at it or change it.
_TEXT_METHODS = tuple(
    name for name in dir(str)
    if not name.startswith("_") and name not in ("join", "format", "encode")
)  # fmt: skip

for _name, (_what, _instead) in _LOOKS.items():
    setattr(Symbol, _name, _needs_value(_what, _instead))
    setattr(Marked, _name, _needs_value(_what, _instead))
for _name in (*_ARITHMETIC, *(f"r{name}" for name in _ARITHMETIC), "neg", "abs", "round"):
    setattr(Symbol, f"__{_name}__", _needs_value("computes with", _same))
setattr(Symbol, "__call__", _needs_value("calls", _same))  # noqa: B010
setattr(Marked, "__getitem__", _needs_value("takes a part of", _same))  # noqa: B010
for _name in _TEXT_METHODS:
    setattr(Marked, _name, _needs_value(f"calls .{_name}() on text made from", _same))
