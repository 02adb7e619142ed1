"""Calls that ask for JSON of one schema are one call, by whatever names their nodes go."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from plait import Engine, llm, prompt, user, workflow
from plait.dag.nodes import Workflow
from plait.dag.plan import make_plan
from plait.dag.workflow import as_workflow
from plait.dag.yaml_file import load_yaml
from plait.testing import FakeBackend

NAMES = "{names: [string], found: {year: integer, by: {name: string}}}"
ROWS = [{"text": "bees"}]


def flow(*schemas: str, name: str = "flow", more: str = "") -> Workflow:
    """A node for each schema, all of the same prompt."""
    nodes = "".join(
        f'  {name}_{i}: {{llm: "Names in: {{{{text}}}}", schema: {schema}{more}}}\n'
        for i, schema in enumerate(schemas)
    )
    output = ", ".join(f'"{{{{{name}_{i}}}}}"' for i in range(len(schemas)))
    text = f"workflow: {name}\ninputs: {{text: string}}\nnodes:\n{nodes}output: [{output}]\n"
    return load_yaml(text, f"{name}.yaml", lambda _: {})


def outputs(
    *targets: Workflow, rows: Any = ROWS, disable: tuple[str, ...] = ()
) -> tuple[list[Any], int]:
    """What the workflows give when they run together, and calls made."""
    backend = FakeBackend()
    with Engine(backend=backend, disable=disable) as engine:
        runs = engine.run_together([(target, rows) for target in targets])
    assert not any(run.failed for run in runs)
    return [run.outputs for run in runs], backend.calls


@pytest.mark.parametrize("schema", [NAMES, "{ok: boolean}", f"[{NAMES}]", "[integer]"])
def test_the_plan_makes_equal_calls_once(schema: str) -> None:
    plan = make_plan(flow(schema, schema), ROWS)
    assert (plan.calls()[0], plan.merged_calls()) == (2, 1)
    assert "total: 2 LLM calls -> 1," in str(plan)


def test_samples_with_a_seed_are_merged_too() -> None:
    target = flow(NAMES, NAMES, more=", n: 2, temperature: 1.0, seed: 3")
    assert make_plan(target, ROWS).merged_calls() == 1


@pytest.mark.parametrize("disable", [(), ("merge_calls",), ("single_flight",)])
def test_a_run_makes_equal_calls_once(disable: tuple[str, ...]) -> None:
    """By its plan, and when prompts come out equal."""
    apart, calls = outputs(flow(NAMES, NAMES), disable=("merge_calls", "single_flight"))
    assert calls == 2
    assert outputs(flow(NAMES, NAMES), disable=disable) == (apart, 1)


@pytest.mark.parametrize("disable", [(), ("merge_calls",), ("single_flight",)])
def test_two_files_that_run_together_share_their_calls(disable: tuple[str, ...]) -> None:
    one, two = flow(NAMES, name="one"), flow(NAMES, name="two")
    found, calls = outputs(one, two, disable=disable)
    assert calls == 1 and found[0] == found[1]


@pytest.mark.parametrize(
    "other",
    [
        "string", "object", "[string]", f"[{NAMES}]",
        "{names: [integer], found: {year: integer, by: {name: string}}}",
        "{names: [string], found: {year: integer, by: {name: integer}}}",
        "{names: [string], found: {year: integer, by: {first: string}}}",
        "{names: [string], found: {year: integer, by: {name: string}}, more: any}",
        pytest.param(
            "{found: {year: integer, by: {name: string}}, names: [string]}", id="another order"
        ),
    ],
)  # fmt: skip
def test_other_schemas_are_other_calls(other: str) -> None:
    assert make_plan(flow(NAMES, other), ROWS).merged_calls() == 2
    assert outputs(flow(NAMES, other))[1] == 2


def test_objects_in_a_schema_are_kept_apart() -> None:
    """All of them have one name."""
    schema = "{a: {x: integer}, b: {y: string}, c: [{x: integer}], d: {x: [{y: string}]}}"
    found, _ = outputs(flow(schema))
    assert found == [[[{"a": {"x": 0}, "b": {"y": ""}, "c": [], "d": {"x": []}}]]]


class Facts(BaseModel):
    names: list[str]


class Claims(BaseModel):
    names: list[str]


@llm
def facts(text: str) -> Facts:
    return prompt(user(f"Names in: {text}"))


@llm
def claims(text: str) -> Claims:
    return prompt(user(f"Names in: {text}"))


@workflow
def both(text: str) -> list[Any]:
    return [facts(text), claims(text)]


def test_classes_of_equal_fields_stay_what_they_are() -> None:
    target = as_workflow(both)
    assert make_plan(target, ROWS).merged_calls() == 2
    ((row,),), _ = outputs(target)
    assert [type(value) for value in row] == [Facts, Claims]
