"""FILE[:NAME]: which workflow is meant, and where a mistake in the file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait import InputError, WorkflowError
from plait.engine.loading import load

LLM = "from plait import llm, workflow\n@llm\ndef ask(topic: str) -> str:\n    return topic\n"
WF = "@workflow\ndef {}(topic: str) -> str:\n    return ask(topic)\n"


def write(folder: Path, source: str, name: str = "wf.py") -> str:
    (folder / name).write_text(source)
    return str(folder / name)


def test_one_workflow_needs_no_name_and_several_do(tmp_path: Path) -> None:
    one = write(tmp_path, LLM + WF.format("first"))
    assert load(one).workflow.name == "first", "an operator beside a workflow is part of it"
    assert load(one + ":ask").workflow.name == "ask"
    two = write(tmp_path, LLM + WF.format("first") + WF.format("second"), "two.py")
    with pytest.raises(InputError, match="several workflows .'first', 'second'.*two.py:NAME"):
        load(two)
    assert load(two + ":second").workflow.name == "second"
    with pytest.raises(InputError, match="has no 'third': it has 'first', 'second', 'ask'|'third'"):
        load(two + ":third")


def test_a_lone_operator_is_a_workflow(tmp_path: Path) -> None:
    assert list(load(write(tmp_path, LLM)).workflow.nodes) == ["topic", "ask"]


def test_what_a_file_imports_counts_only_when_it_defines_nothing(tmp_path: Path) -> None:
    write(tmp_path, LLM + WF.format("inner"), "neighbour_of_wf.py")
    both = write(tmp_path, "from neighbour_of_wf import inner, ask\n" + LLM + WF.format("own"))
    assert load(both).workflow.name == "own"
    only = write(tmp_path, "from neighbour_of_wf import inner\n", "only.py")
    assert load(only).workflow.name == "inner"


def test_a_mistake_deep_in_an_import_names_its_own_line(tmp_path: Path) -> None:
    write(tmp_path, "x = 1\n\n\nraise RuntimeError('deep')\n", "broken_neighbour_of_wf.py")
    with pytest.raises(WorkflowError) as caught:
        load(write(tmp_path, "import broken_neighbour_of_wf\n"))
    (problem,) = caught.value.problems
    assert problem.line == 4 and str(problem.file).endswith("broken_neighbour_of_wf.py")
    assert "RuntimeError: deep" in problem.message


def test_types_of_a_file_can_be_looked_up(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from pydantic import BaseModel\nfrom plait import llm\n"
        "class Facts(BaseModel):\n    names: list[Name]\n"
        "class Name(BaseModel):\n    text: str\n"
        "@dataclass\nclass D:\n    f: Facts\n"
        "@llm\ndef extract(text: str) -> Facts:\n    return text\n"
    )
    assert load(write(tmp_path, source)).workflow.type.__name__ == "Facts"


def test_a_file_is_run_afresh_when_it_has_changed(tmp_path: Path) -> None:
    first = load(write(tmp_path, LLM + WF.format("first")))
    second = load(write(tmp_path, LLM + WF.format("second")))
    assert second.workflow.name == "second" and first.sha256 != second.sha256


def test_yaml_takes_its_tools_from_beside_it(tmp_path: Path) -> None:
    write(tmp_path, 'from plait import tool\n@tool\ndef up(text: str) -> str:\n    return text\n',
          "mytools.py")  # fmt: skip
    path = write(
        tmp_path,
        "workflow: small\ninputs: [topic]\ntools: mytools.py\n"
        'nodes:\n  a: {tool: up, args: {text: "{{topic}}"}}\noutput: "{{a}}"\n',
        "small.yaml",
    )
    loaded = load(path)
    assert loaded.workflow.name == "small" and not loaded.problems()
    write(tmp_path, "# changed\n" + (tmp_path / "mytools.py").read_text(), "mytools.py")
    assert load(path).sha256 != loaded.sha256, "a change of the tools goes unseen"
    with pytest.raises(InputError, match="leave out :a"):
        load(path + ":a")


@pytest.mark.parametrize(("name", "told"), [("none.py", "no workflow file"), ("", "directory"),
                                            ("a.txt", "ends in .py, .yaml or .yml")])  # fmt: skip
def test_what_is_no_workflow_file(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=told):
        load(str(tmp_path / name))
