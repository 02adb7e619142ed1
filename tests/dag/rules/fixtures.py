"""Reading fixture files: workflows in YAML, rows, and the plan before and after one rule.

    # what the case shows
    workflow: ...            the YAML of a workflow, or Python that defines `flow`
    ---
    {"topic": "a"}           rows, one a line
    ---
    before                   the plan as `explain` prints it
    ---
    after                    the same behind the rule
    ===                      next case

A text `same as above` stands for a plan that the rule leaves alone. `# with RULE, RULE` in the
first line names rules that go before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plait
from plait.dag.nodes import Workflow
from plait.dag.operators import Operator
from plait.dag.yaml_file import load_yaml

SAME = "same as above"


@dataclass(frozen=True)
class Case:
    """One before/after pair."""

    what: str
    with_rules: tuple[str, ...]
    workflow: Workflow
    rows: list[dict[str, Any]]
    before: str
    after: str


def read_cases(path: Path, tools: dict[str, Operator[Any, Any]]) -> list[Case]:
    """The cases of a fixture file; its workflows may say `tools: tools.py`."""
    return [
        _case(block.strip("\n"), path, tools) for block in path.read_text("utf-8").split("\n===\n")
    ]


def _case(block: str, path: Path, tools: dict[str, Operator[Any, Any]]) -> Case:
    source, rows, before, after = (part.strip("\n") for part in block.split("\n---\n"))
    head, _, _ = source.partition("\n")
    what, _, names = head.removeprefix("# ").partition("; with ")
    if "\nworkflow:" in source:
        workflow = load_yaml(source, path.name, lambda _: tools)
    else:
        scope: dict[str, Any] = {"plait": plait, "llm": plait.llm, "Any": Any, **tools}
        exec(compile(source, path.name, "exec"), scope)
        workflow = plait.workflow(scope["flow"]).workflow
    after = before if after == SAME else after
    found = tuple(names.split(", ")) if names else ()
    return Case(what, found, workflow, [json.loads(r) for r in rows.splitlines()], before, after)
