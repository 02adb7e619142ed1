"""Every example runs as it stands, on the embedded model, and is short."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

import plait
from plait.cli.demo import FOLDER
from plait.engine.loading import load
from plait.testing import assert_same_rows

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.yaml"), EXAMPLES / "demo/workflow.py"])
NAMES = [path.relative_to(EXAMPLES).as_posix() for path in FILES]


def run(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_there_are_examples_of_every_use() -> None:
    assert set(NAMES) >= {
        "demo/workflow.py", "live.py", "map_reduce.py", "plan_solve_check.py", "quickstart.py",
        "tools_agent.py",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_under_60_lines(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < 60


def test_quickstart(capsys: pytest.CaptureFixture[str]) -> None:
    out = run("quickstart.py", capsys)
    assert out.count("  -> ") == 3 and "tokens in" in out


def test_map_reduce(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("map_reduce.py", capsys).splitlines()
    assert len(lines) == 2
    assert all(isinstance(ast.literal_eval(line), dict) for line in lines)


def test_tools_agent(capsys: pytest.CaptureFixture[str]) -> None:
    out = run("tools_agent.py", capsys)
    assert out.count("  -> ") == 3
    assert "assistant/calculator:" in out and "assistant/sql:" in out


def test_plan_solve_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'planned': '77'" in run("plan_solve_check.py", capsys)


def test_yaml_gives_what_python_gives() -> None:
    path = EXAMPLES / "plan_solve_check.yaml"
    in_yaml = load(str(path)).workflow
    in_python = load(str(path.with_suffix(".py"))).workflow
    rows = [{"problem": f"Tom has {n} boxes with 14 pens each. How many pens are there?"}
            for n in range(3, 7)]  # fmt: skip
    with plait.Engine(model="demo") as engine:
        left, right = engine.run(in_yaml, rows), engine.run(in_python, rows)
    assert_same_rows(left.rows, right.rows)
    assert any(row.ok for row in left)


def test_live(capsys: pytest.CaptureFixture[str]) -> None:
    out = run("live.py", capsys)
    assert "'votes':" in out and "'solve':" in out


def test_plan_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("plan_and_run.py", capsys).splitlines()
    assert lines[0] == "32275 thousand people live in Lima and Cairo."
    assert "calls 'fly'" in lines[1] and "answer/population: 1 calls" in lines


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'planned_right':" in run("demo/workflow.py", capsys)


def test_the_demo_command_runs_this_example() -> None:
    assert FOLDER.resolve() == EXAMPLES.resolve() / "demo"
