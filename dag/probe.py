"""Sample values for the arguments of a prompt body, to test that a template says what it says.

Samples are of the declared types, and the constants in the body's code are among them: what a
body compares with is most likely what makes it differ. Passing is no proof; failing is one.
"""

from __future__ import annotations

import enum
import inspect
import string
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter
from typing_extensions import is_typeddict

from .errors import in_short
from .messages import Message
from .template import Template, is_model
from .types import hints_of, is_union, plain_type

MAX_RUNS = 160
MAX_CONSTANTS = 24
MAX_LENGTH = 20_000
TEXTS = (
    "plain words",
    "",
    "a",
    "yes",
    string.printable[:95],
    "Zoë\n日本 ",
    "Zoe\u0308 ﬁ",  # what Unicode normalization would change
    "12",
    " X ",
    "A b" * 99,
)
INTS, FLOATS = (7, 0, -1, 1, 12, 1_000_000), (0.5, 0.0, -2.25, 3e10)
_DEEPEST = 3


def disagreement(
    body: Callable[..., Any], types: Mapping[str, Any], template: Template
) -> str | None:
    """An example for which the body returns something else than the template renders, if one of
    the samples shows it. Samples on which either of them fails are passed over."""
    constants = _constants(body, template)
    samples = {arg: list(_samples(kind, constants, 0)) for arg, kind in types.items()}
    if not samples or not all(samples.values()):
        return None
    base = {arg: values[0] for arg, values in samples.items()}
    tries = [(arg, value) for arg, values in samples.items() for value in values]
    for arg, value in tries[:MAX_RUNS]:
        values = {**base, arg: value}
        try:
            returned, rendered = _prompt(body(**values)), template.render(values)
        except Exception:
            continue
        if returned is not None and returned != rendered:
            return f"with {arg}={in_short(value)} it is not the same text around the same values"
    return None


def _prompt(returned: Any) -> Any:
    """What a body returned, in the form of a rendered template; None if it is no prompt."""
    if isinstance(returned, str):
        return returned
    messages = [returned] if isinstance(returned, Message) else returned
    if not isinstance(messages, list | tuple):
        return None
    good = all(isinstance(m, Message) and isinstance(m.content, str) for m in messages)
    return list(messages) if good else None


# -- samples -----------------------------------------------------------------------------------


def _samples(kind: Any, constants: tuple[Any, ...], depth: int) -> Iterator[Any]:
    """Values of a type, the plainest first; none when the type is not known here."""
    kind = plain_type(kind)
    origin, args = get_origin(kind) or kind, get_args(kind)
    if kind is str or kind is Any:
        yield from TEXTS
        yield from (c for c in constants if isinstance(c, str))
    elif kind is int or kind is float:
        yield from INTS if kind is int else FLOATS
        numbers = [c for c in constants if type(c) in (int, float)]
        yield from (kind(n + step) for n in numbers for step in (0, 1, -1))
    elif kind is bool:
        yield from (True, False)
    elif kind is type(None):
        yield None
    elif origin is Literal:
        yield from args
    elif is_union(kind):
        each = [list(_samples(k, constants, depth)) for k in args]
        yield from [values[0] for values in each if values]
        yield from [value for values in each for value in values[1:]]
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        yield from kind
    elif depth < _DEEPEST:
        yield from _containers(kind, origin, args, constants, depth + 1)


def _containers(
    kind: Any, origin: Any, args: tuple[Any, ...], constants: tuple[Any, ...], depth: int
) -> Iterator[Any]:
    if origin is list:
        items = list(_samples(args[0] if args else str, constants, depth))[:12]
        if items:
            yield from (items[:3], [], items[:1], items[3:])
    elif origin is dict:
        items = list(_samples(args[1] if args else str, constants, depth))
        keys = [*(c for c in constants if isinstance(c, str)), "key"]
        if items and (not args or plain_type(args[0]) is str):
            yield from (dict.fromkeys(keys, items[0]), {}, {"key": items[-1]})
    elif is_model(kind) or is_typeddict(kind):
        yield from _records(kind, constants, depth)


def _records(kind: Any, constants: tuple[Any, ...], depth: int) -> Iterator[Any]:
    """Values of a class with typed fields: each field takes each of its samples once."""
    try:
        hints = hints_of(kind)
        adapter = TypeAdapter(kind)
    except Exception:
        return  # a class that pydantic cannot read: no samples of it
    if is_model(kind):
        hints = {name: field.annotation for name, field in kind.model_fields.items()}
    samples = {name: list(_samples(k, constants, depth))[:12] for name, k in hints.items()}
    if not all(samples.values()):
        return
    base = {name: values[0] for name, values in samples.items()}
    for name, values in (samples or {"": [None]}).items():
        for value in values:
            try:
                # by_name: a field with an alias is still filled
                fields = {**base, name: value} if name else {}
                yield adapter.validate_python(fields, by_name=True)
            except Exception:
                continue  # refused by the class's own rules


# -- constants ---------------------------------------------------------------------------------


def _constants(body: Callable[..., Any], template: Template) -> tuple[Any, ...]:
    """Constants the body and the functions it names compare with, perhaps: as they are, and
    without the static text around a slot. Lengths become texts of that length."""
    found = dict.fromkeys(_of_function(inspect.unwrap(body), set()))
    texts = [c for c in found if isinstance(c, str) and 0 < len(c) < 200][:MAX_CONSTANTS]
    numbers = [c for c in found if not isinstance(c, str) and abs(c) < 1e15][:MAX_CONSTANTS]
    fixed = [p for m in template.messages for p in m.parts if isinstance(p, str) and p]
    for piece in [*dict.fromkeys(fixed), *texts]:
        texts += [t[len(piece) :] for t in texts if t.startswith(piece) and t != piece]
        texts += [t[: -len(piece)] for t in texts if t.endswith(piece) and t != piece]
        texts = list(dict.fromkeys(texts))[: 3 * MAX_CONSTANTS]
    lengths = [n for n in numbers if isinstance(n, int) and 16 < n < MAX_LENGTH]
    texts += ["y" * (n + 1) for n in lengths]
    return tuple(dict.fromkeys([*texts, *numbers]))


def _of_function(fn: Any, seen: set[int]) -> Iterator[str | int | float]:
    code = getattr(fn, "__code__", None)
    if code is None or id(code) in seen or len(seen) > 16:
        return
    seen.add(id(code))
    yield from _of_code(code)
    if str(getattr(fn, "__module__", "")).startswith("plait."):
        return
    scope = getattr(fn, "__globals__", {})
    cells = [c.cell_contents for c in fn.__closure__ or () if _filled(c)]
    for value in [*(scope.get(name) for name in code.co_names), *cells]:
        if isinstance(value, types.FunctionType):
            yield from _of_function(value, seen)
        else:
            yield from _flat(value)


def _of_code(code: types.CodeType) -> Iterator[str | int | float]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _of_code(constant)
        else:
            yield from _flat(constant)


def _flat(value: Any, depth: int = 0) -> Iterator[str | int | float]:
    if type(value) in (str, int, float):
        yield value
    elif type(value) in (tuple, list, set, frozenset, dict) and len(value) < 100 and depth < 3:
        for item in sorted(value, key=repr):  # sets have no order of their own
            yield from _flat(item, depth + 1)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
