"""Malformed plans: the node is named, behind the bodies that it is in, and whose fault it is."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import plait
from plait import workflow
from plait.dag.arg import Ref
from plait.dag.errors import EngineError, WorkflowError
from plait.dag.logical import Part, Plan, with_numbers
from plait.dag.nodes import Loop, Map, Workflow
from plait.dag.numbering import Numbering
from plait.dag.optimize import optimize
from plait.dag.rewriting import rewrite
from plait.dag.rules import RULES

from .operators import draft, good


@plait.llm(max_tokens=8)
def rewrite_in(text: str, style: str) -> str:
    return f"Rewrite {text} in a {style} style"


@workflow
def note(text: str, style: str) -> str:
    return rewrite_in(draft(draft(text)), style)


@workflow
def notes(texts: list[str], style: str) -> list[str]:
    return plait.map(note, texts, style=style)


@workflow
def shelves(lists: list[list[str]], style: str) -> list[list[str]]:
    return plait.map(notes, lists, style=style)


@workflow
def polished(text: str) -> str:
    return plait.loop(draft, text, until=good, max_iters=2)


ROWS: dict[str, list[Any]] = {
    "notes": [{"texts": ["a", "b"], "style": "short"}] * 3,
    "shelves": [{"lists": [["a"], ["b", "c"]], "style": "short"}],
    "polished": [{"text": "a"}],
}


def plan_of(graph: Workflow) -> Plan:
    rows = ROWS[graph.name]
    return Plan((Part(graph, len(rows), rows),), numbering=Numbering())


def with_node(graph: Workflow, id: str, **changed: Any) -> Workflow:
    return replace(graph, nodes={**graph.nodes, id: replace(graph.nodes[id], **changed)})


def in_body(graph: Workflow, id: str, change: Callable[[Workflow], Workflow]) -> Workflow:
    node = graph.nodes[id]
    assert isinstance(node, Map | Loop)
    return with_node(graph, id, body=change(node.body))


def lost_item(graph: Workflow) -> Workflow:
    return with_node(graph, "map_note", item="gone")


def lost_style(graph: Workflow) -> Workflow:
    return with_node(graph, "map_note", bound=())


def without_first(graph: Workflow) -> Workflow:
    return replace(graph, nodes={id: n for id, n in graph.nodes.items() if id != "draft"})


def elsewhere(graph: Workflow) -> Workflow:
    return replace(graph, output=Ref("gone"))


def without_inputs(graph: Workflow) -> Workflow:
    none = replace(graph.nodes["draft"], bound=())  # type: ignore[call-arg]
    return replace(graph, nodes={"draft": none})


BROKEN = [
    (lost_item(notes.workflow),
     "node 'map_note' gives items to 'gone', no input of its body"),
    (in_body(shelves.workflow, "map_notes", lost_item),
     "node 'map_notes/map_note' gives items to 'gone', no input of its body"),
    (lost_style(notes.workflow),
     "node 'map_note' gives nothing to 'style', an input of its body"),
    (in_body(notes.workflow, "map_note", without_first),
     "node 'map_note/draft_2' needs 'draft', which stands nowhere"),
    (in_body(shelves.workflow, "map_notes", lambda g: in_body(g, "map_note", elsewhere)),
     "the output of the body of node 'map_notes/map_note' needs 'gone', which is no node"),
    (in_body(polished.workflow, "loop_draft", without_inputs),
     "node 'loop_draft' has a body without an input for its state"),
]  # fmt: skip


@pytest.mark.parametrize(("graph", "told"), BROKEN, ids=lambda value: getattr(value, "name", None))
def test_what_is_wrong_in_a_body_is_named_with_its_way(graph: Workflow, told: str) -> None:
    for rules in ((), RULES):
        with pytest.raises(WorkflowError) as caught:
            optimize(plan_of(graph), rules)
        assert str(caught.value) == f"the workflow cannot be planned: {told}"


@pytest.mark.parametrize("flow", [notes, shelves, polished], ids=lambda flow: flow.name)
def test_whole_plans_pass_every_rule(flow: Any) -> None:
    assert optimize(plan_of(flow.workflow)).rules == tuple(rule.__name__ for rule in RULES)


def test_a_rule_that_breaks_a_body_is_named_with_the_node() -> None:
    def forgets(plan: Plan) -> Plan:
        return rewrite(plan, lambda graph: without_first(graph) if graph.name == "note" else graph)

    told = "rule 'forgets' broke the plan: node 'map_note/draft_2' needs 'draft'"
    with pytest.raises(EngineError, match=told):
        optimize(plan_of(notes.workflow), [forgets])


@pytest.mark.parametrize("inside", [False, True])
def test_numbers_that_do_not_fit_the_rows_are_named(inside: bool) -> None:
    def cuts(plan: Plan) -> Plan:
        plan = with_numbers(plan)
        (part,) = plan.parts
        assert part.numbered is not None
        short = replace(part.numbered, columns={**part.numbered.columns, "style": array("i", [1])})
        if inside:
            body = part.numbered.bodies["map_note"]
            body = replace(body, columns={**body.columns, "draft": array("i", [1])})
            short = replace(part.numbered, bodies={"map_note": body})
        return replace(plan, parts=(replace(part, numbered=short),))

    node, rows = ("map_note/draft", "6 items") if inside else ("style", "3 rows")
    told = f"rule 'cuts' broke the plan: node '{node}' has 1 numbers for {rows}"
    with pytest.raises(EngineError, match=told):
        optimize(plan_of(notes.workflow), [cuts])


def test_classes_that_do_not_fit_the_rows_are_named() -> None:
    def classes(plan: Plan) -> Plan:
        part = replace(plan.parts[0], classes={"map_note": array("i", [0])})
        return replace(plan, parts=(part,), uses=array("i", [1]))

    with pytest.raises(EngineError, match="node 'map_note' has 1 classes for 3 rows"):
        optimize(plan_of(notes.workflow), [classes])


@pytest.mark.parametrize("error", [StopIteration(), KeyError("draft"), ValueError("no such\nnode")])
def test_a_rule_that_raises_is_named_and_its_error_kept(error: Exception) -> None:
    def raises(plan: Plan) -> Plan:
        raise error

    with pytest.raises(EngineError, match="rule 'raises' failed: ") as caught:
        optimize(plan_of(notes.workflow), [raises])
    assert caught.value.__cause__ is error and type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_rule_says_to_the_user_stays_as_it_is() -> None:
    def refuses(plan: Plan) -> Plan:
        raise WorkflowError("this workflow is wrong")

    with pytest.raises(WorkflowError, match="^this workflow is wrong$"):
        optimize(plan_of(notes.workflow), [refuses])
