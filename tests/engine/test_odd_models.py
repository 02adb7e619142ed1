"""Pydantic models that behave in their own way: a plan gives every row what it has without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, PrivateAttr, RootModel

from plait import tool, workflow
from plait.dag.keys import Unkeyed, value_key
from plait.dag.workflow import as_workflow
from plait.engine.backends.fake import FakeBackend
from plait.engine.executor import Executor
from plait.engine.options import Options


class Pets(RootModel[list[str]]):
    """It iterates over what it holds, as pydantic's documentation recommends."""

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.root)


class Patch(BaseModel):
    name: str = "x"
    size: int = 1


class Counted(BaseModel):
    name: str
    _seen: int = PrivateAttr(0)


class Words(list[str]):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("not to be iterated over")


@tool(effect="pure")
def parse(text: str) -> Pets:
    return Pets(text.split(","))


@tool(effect="pure")
def count(pets: Pets) -> int:
    return len(pets.root)


@tool(effect="pure")
def given(patch: Patch) -> str:
    return ",".join(sorted(patch.model_dump(exclude_unset=True)))


@tool(effect="pure")
def marked(text: str) -> Counted:
    found = Counted(name="same")
    found._seen = len(text)
    return found


@tool(effect="pure")
def seen(counted: Counted) -> int:
    return counted._seen


@tool(effect="pure")
def words(text: str) -> Any:
    return Words(text.split())


@tool(effect="pure")
def length(words: Any) -> int:
    return len(words)


@tool(effect="pure")
def nest(text: str) -> Any:
    value: Any = text
    for _ in range(500):
        value = [value]
    return value


@tool(effect="pure")
def depth(value: Any) -> int:
    found = 0
    while isinstance(value, list):
        value, found = value[0], found + 1
    return found


@workflow
def counts(text: str) -> int:
    return count(parse(text))


@workflow
def counts_given(pets: Pets) -> int:
    return count(pets)


@workflow
def patched(patch: Patch) -> str:
    return given(patch)


@workflow
def privately(text: str) -> int:
    return seen(marked(text))


@workflow
def odd_list(text: str) -> int:
    return length(words(text))


@workflow
def nested(text: str) -> Any:
    return nest(text)


@workflow
def unnested(text: str) -> int:
    return depth(nest(text))


TEXTS = [{"text": "dog,cat"}, {"text": "dog"}, {"text": "dog,cat"}]


def rows_of(target: Any, rows: list[dict[str, Any]], plan: bool) -> list[tuple[str, Any, str]]:
    async def run() -> list[tuple[str, Any, str]]:
        executor = Executor(as_workflow(target), FakeBackend(), Options(plan=plan))
        found = [row async for row in executor.run(rows)]
        found.sort(key=lambda row: row.index)
        return [(row.status, row.output, str(row.error)) for row in found]

    return asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        (counts, TEXTS),
        (counts_given, [{"pets": ["ab"]}, {"pets": ["ab", "ab"]}, {"pets": ["ab"]}]),
        (counts_given, [{"pets": Pets(["ab"])}, {"pets": Pets(["ab", "cd", "a"])}]),
        (patched, [{"patch": {}}, {"patch": {"size": 1}}, {"patch": {"name": "x"}}]),
        (patched, [{"patch": Patch()}, {"patch": Patch(size=1)}, {"patch": Patch()}]),
        (privately, [{"text": "a"}, {"text": "abc"}, {"text": "a"}]),
        (odd_list, TEXTS),
        (nested, TEXTS),
        (unnested, TEXTS),
    ],
)
def test_rows_are_those_without_a_plan(target: Any, rows: list[dict[str, Any]]) -> None:
    planned = rows_of(target, rows, plan=True)
    assert planned == rows_of(target, rows, plan=False)
    assert len(planned) == len(rows)


def test_models_have_one_key_if_nothing_tells_them_apart() -> None:
    assert value_key(Patch(size=1)) == value_key(Patch(size=1)) != value_key(Patch())
    assert value_key(Pets(["ab"])) == value_key(Pets(["ab"])) != value_key(Pets(["ab", "ab"]))
    one, two = Counted(name="a"), Counted(name="a")
    assert value_key(one) == value_key(two)
    two._seen = 1
    assert value_key(one) != value_key(two)
    with pytest.raises(Unkeyed):
        value_key(Patch.__new__(Patch))
