"""What is said of plans that are not plans, and of rules that are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plait import llm, workflow
from plait.dag.arg import Ref
from plait.dag.errors import ConfigError, EngineError, WorkflowError
from plait.dag.logical import Part, Plan
from plait.dag.optimize import optimize
from plait.dag.rules import RULES
from plait.dag.workflow import as_workflow


@llm(max_tokens=8)
def first(text: str) -> str:
    return f"first {text}"


@workflow
def chain(text: str) -> str:
    return first(first(text))


GRAPH = as_workflow(chain)
BROKEN = replace(GRAPH, nodes={k: v for k, v in GRAPH.nodes.items() if k != "first"})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_malformed_plan_is_refused_before_any_rule_and_the_node_named(rule: object) -> None:
    with pytest.raises(WorkflowError, match="node 'first_2' needs 'first', which stands nowhere"):
        optimize(Plan((Part(BROKEN, 1, [{"text": "a"}]),)), [rule])  # type: ignore[list-item]


def test_a_rule_that_breaks_the_plan_is_named_with_the_node() -> None:
    def breaks(plan: Plan) -> Plan:
        return replace(plan, parts=(replace(plan.parts[0], workflow=BROKEN),))

    with pytest.raises(EngineError, match="rule 'breaks' broke the plan: node 'first_2'"):
        optimize(Plan((Part(GRAPH, 1, [{"text": "a"}]),)), [breaks])


def test_an_output_that_is_no_node_is_named() -> None:
    lost = replace(GRAPH, output=Ref("gone"))
    with pytest.raises(WorkflowError, match="needs 'gone', which is no node"):
        optimize(Plan((Part(lost, 1, [{"text": "a"}]),)))


def test_an_unknown_rule_lists_the_known_ones_and_the_likely_one() -> None:
    with pytest.raises(ConfigError) as caught:
        optimize(Plan((Part(GRAPH, 0, []),)), disable=["merge_cals"])
    for rule in RULES:
        assert rule.__name__ in str(caught.value)
    assert "did you mean 'merge_calls'?" in str(caught.value)
