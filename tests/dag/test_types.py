"""Types on edges, against pydantic: an edge may be refused only where no value would pass."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal, NewType

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from plait.dag.template import project
from plait.dag.types import field_type, fits, item_type, type_name


class Base(BaseModel):
    name: str
    years: list[int]

    @property
    def first(self) -> int:
        return self.years[0]


class More(Base):
    extra: str = ""


class Typed(TypedDict):
    name: str
    years: list[int]


UserId = NewType("UserId", int)
MODEL, MORE = Base(name="a", years=[1]), More(name="a", years=[1])
TYPED: Typed = {"name": "a", "years": [1]}

VALUES: dict[Any, list[Any]] = {
    str: ["a", ""], int: [1, 0], float: [1.5], bool: [True], None: [None],
    list[str]: [["a"], []], list[int]: [[1], []], list: [[1], ["a"]],
    dict[str, int]: [{"a": 1}], dict: [{"a": "b"}], Base: [MODEL], More: [MORE], Typed: [TYPED],
    Literal["a", "b"]: ["a"], str | None: ["a", None], int | str: [1, "a"], UserId: [3],
    Annotated[int, Field(ge=0)]: [2], tuple[int, ...]: [(1, 2)], set[str]: [{"a"}],
    list[Base]: [[MODEL]], list[list[int]]: [[[1]]],
}  # fmt: skip


@pytest.mark.parametrize("given", VALUES, ids=str)
def test_an_edge_is_refused_only_if_no_value_of_the_type_would_pass(given: Any) -> None:
    for wanted in VALUES:
        passes = [_accepts(wanted, value) for value in VALUES[given]]
        if all(passes):
            assert fits(given, wanted), f"{type_name(given)} passes as {type_name(wanted)}"


def _accepts(kind: Any, value: Any) -> bool:
    """As strictly as an editor's type checker reads it, except that an int is a float."""
    try:
        TypeAdapter(kind).validate_python(value, strict=not _loose(kind, value))
    except ValidationError:
        return False
    return True


def _loose(kind: Any, value: Any) -> bool:
    """Where a value may become another class: dicts and models, and one list-like as another."""
    listlike = item_type(kind) is not None
    return isinstance(value, tuple | set) if listlike else isinstance(value, BaseModel | dict)


REFUSED = [
    (str, int), (int, str), (float, int), (list[str], str), (str, list[str]),
    (list[str], list[int]),
    (dict[str, int], list[int]), (None, str), (Base, str), (Base, More), (Literal["a"], int),
    (list[list[int]], list[int]), (int | None, str), (str, Base), (UserId, str),
    (list[Base], list[str]), (Typed, list[int]), (int, bool),
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), REFUSED, ids=str)
def test_certain_mismatches_are_refused(given: Any, wanted: Any) -> None:
    assert not fits(given, wanted)


def test_everything_fits_any_and_itself() -> None:
    for kind in VALUES:
        assert fits(kind, kind) and fits(kind, Any) and fits(Any, kind) and fits(kind, object)


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_a_part_is_refused_only_if_no_value_has_it_and_its_type_holds_the_part(kind: Any) -> None:
    steps: tuple[str | int, ...] = ("name", "years", "first", "a", 0, "nope")
    for value, step in itertools.product(VALUES[kind], steps):
        try:
            part = project(value, (step,))
        except Exception:
            continue
        if callable(part):
            continue  # a method of the value, not a part of it
        TypeAdapter(field_type(kind, step)).validate_python(part, strict=False)


def test_parts_that_cannot_be_there_are_refused() -> None:
    for kind, step in ((Base, "nope"), (Typed, "nope"), (int, 0), (int, "x"), (list[int], "x"),
                       (Base, 0), (float, 1)):  # fmt: skip
        with pytest.raises(KeyError):
            field_type(kind, step)


def test_types_of_items_and_parts() -> None:
    assert (item_type(list[int]), item_type(list), item_type(str)) == (int, Any, None)
    assert item_type(tuple[int, ...]) is int
    assert field_type(Base, "years") == list[int]
    assert field_type(list[Base], 3) is Base and field_type(dict[str, int], "k") is int
    assert field_type(tuple[int, str], 1) is str and field_type(Typed, "years") == list[int]
    assert field_type(Base, "first") is Any and field_type(Any, "x") is Any


def test_types_are_shown_as_they_are_written() -> None:
    shown = [type_name(k) for k in (int, list[str], str | None, Any, Base, dict[str, Any], None)]
    assert shown == ["int", "list[str]", "str | None", "Any", "Base", "dict[str, Any]", "None"]
