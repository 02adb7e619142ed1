"""Tools by name, from modules and files."""

import os
import sys
import types
from pathlib import Path

import pytest

import plait.tools
from plait import InputError, WorkflowError, calculator, tool
from plait.tools.registry import load_tools, tools_of


@pytest.fixture(autouse=True)
def keep_the_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())


@tool(name="look-up")
def lookup(x: int) -> int:
    return x


@tool(name="look-up")
def other(x: int) -> int:
    return x


def module(**values: object) -> types.ModuleType:
    made = types.ModuleType("made")
    vars(made).update(values)
    return made


def test_tools_stand_under_their_own_name_once() -> None:
    made = module(lookup=lookup, again=lookup, calculator=calculator, _hidden=other, number=3)
    assert tools_of(made) == {"look-up": lookup, "calculator": calculator}


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(WorkflowError, match="two tools named 'look-up'") as caught:
        tools_of(module(lookup=lookup, other=other))
    (problem,) = caught.value.problems
    assert problem.file == __file__ and problem.hint is not None and __file__ in problem.hint


def test_a_module_by_name() -> None:
    assert load_tools("plait.tools") == {"calculator": plait.tools.calculator}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


TOOLS = """
from pydantic import BaseModel
from plait import tool
from neighbour import SHIFT

class Place(BaseModel):
    city: str

@tool(effect="pure")
def shout(place: Place) -> str:
    return place.city.upper() + SHIFT
"""


def test_a_file_with_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "neighbour.py", "SHIFT = '!'")
    write(tmp_path, "mytools.py", TOOLS)
    try:
        (shout,) = load_tools("mytools.py", tmp_path).values()
        assert (
            shout.result.check(shout.fn(**shout.arguments.read({"place": {"city": "x"}}))) == "X!"
        )
    finally:
        sys.modules.pop("neighbour", None)


def test_a_file_is_run_again_only_when_it_has_changed(tmp_path: Path) -> None:
    text = "from plait import tool\n@tool\ndef one() -> int:\n    return {}\n"
    path = write(tmp_path, "mytools.py", text.format(1))
    first = load_tools("mytools.py", tmp_path)["one"]
    assert load_tools(str(path))["one"] is first
    write(tmp_path, "mytools.py", text.format(2))
    os.utime(path, ns=(1, 1))
    assert load_tools("mytools.py", tmp_path)["one"].fn() == 2


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("x = 1\ny = x.z\n", "cannot be run: AttributeError", 2),
        ("def f(:\n", "cannot be run: SyntaxError", 1),
        ("import sys\nsys.exit(3)\n", "cannot be run: SystemExit: 3", 2),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError", 1),
        (
            "from plait import tool\n@tool(retries=1)\ndef f() -> None: ...\n",
            "could write twice",
            2,
        ),
        ("x = 1\n", "has no tools", 1),
    ],
)
def test_a_file_that_gives_no_tools(tmp_path: Path, text: str, message: str, line: int) -> None:
    path = write(tmp_path, "mytools.py", text)
    with pytest.raises(WorkflowError, match=message) as caught:
        load_tools("mytools.py", tmp_path)
    (problem,) = caught.value.problems
    assert problem.line == line and problem.file == str(path) and problem.hint


@pytest.mark.parametrize("where", ["missing.py", "no.such.module", "two words", "", "../x"])
def test_what_is_not_there(tmp_path: Path, where: str) -> None:
    with pytest.raises(InputError):
        load_tools(where, tmp_path)
