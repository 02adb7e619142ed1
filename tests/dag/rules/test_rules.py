"""Every rule: its fixture file, and both sides of every fixture run to the same rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import plait
from plait import Engine, tool
from plait.dag.arg import Lit, Ref
from plait.dag.errors import ConfigError, EngineError, WorkflowError
from plait.dag.logical import Part, Plan
from plait.dag.nodes import Input, LLMCall, Workflow
from plait.dag.numbering import Numbering
from plait.dag.optimize import optimize
from plait.dag.plan import make_plan
from plait.dag.rules import RULES
from plait.dag.sampling import Sampling
from plait.dag.verbose import Told
from plait.engine.known import make_known_calls_now

from .fixtures import Case, read_cases

HERE = Path(__file__).parent
NAMES = [rule.__name__ for rule in RULES]
BY_NAME = {rule.__name__: rule for rule in RULES}


@tool(effect="pure")
def shout(text: str) -> str:
    return text.upper()


@tool(effect="read")
def look(text: str) -> str:
    return f"seen {text}"


@tool
def note(text: str) -> str:
    return f"noted {text}"


@tool(effect="pure")
async def parse(text: str) -> dict[str, Any]:
    word, number = text.split()
    return {"word": word, "many": int(number) > 1}


TOOLS: dict[str, Any] = {"shout": shout, "look": look, "note": note, "parse": parse}


def cases() -> Iterator[Any]:
    for name in NAMES:
        for case in read_cases(HERE / f"{name}.txt", TOOLS):
            yield pytest.param(name, case, id=f"{name}: {case.what}")


def planned(case: Case, names: tuple[str, ...]) -> Plan:
    off = set(NAMES) - set(names)
    known = make_known_calls_now([(case.workflow, len(case.rows))], off)
    parts = (Part(case.workflow, len(case.rows), case.rows),)
    start = Plan(parts, numbering=Numbering(), known=known)
    return optimize(start, [BY_NAME[name] for name in names])


def test_every_module_is_a_rule_and_has_fixtures() -> None:
    place = Path(plait.__file__).parent / "dag" / "rules"
    modules = {p.stem for p in place.glob("*.py")} - {"__init__"}
    assert modules == set(NAMES) == {p.stem for p in HERE.glob("*.txt")}
    assert all((rule.__doc__ or "").strip() for rule in RULES)


@pytest.mark.parametrize(("name", "case"), list(cases()))
def test_fixture(name: str, case: Case) -> None:
    before = planned(case, case.with_rules)
    after = planned(case, (*case.with_rules, name))
    assert shown(before) == case.before
    assert shown(after) == case.after


def shown(plan: Plan) -> str:
    """The plan as text, and the order of its rows where it has one."""
    order = plan.parts[0].order
    return str(plan) + (f"\norder: {list(order)}" if order is not None else "")


@pytest.mark.parametrize(("name", "case"), list(cases()))
def test_both_sides_give_the_same_rows(name: str, case: Case) -> None:
    after = planned(case, (*case.with_rules, name))
    with Engine(backend="fake") as engine:
        one = engine.run(case.workflow, case.rows)
        two = engine.run(after.parts[0].workflow, case.rows)
    plait_rows = [(r.id, r.status, r.output, r.error) for r in one]
    assert plait_rows == [(r.id, r.status, r.output, r.error) for r in two]


def test_rules_can_be_left_out_by_name() -> None:
    case = read_cases(HERE / "merge_calls.txt", TOOLS)[0]
    plan = make_plan(case.workflow, case.rows, disable=["merge_calls"])
    assert "merge_calls" not in plan.rules and plan.parts[0].classes is None
    assert plan.merged_calls() == plan.calls()[0]
    with pytest.raises(ConfigError, match=r"'merge_cals'.*prune.*mean 'merge_calls'"):
        make_plan(case.workflow, case.rows, disable=["merge_cals"])


# -- plans that are wrong --------------------------------------------------------------------------


def small(**changes: Any) -> Workflow:
    from plait.dag.template import Slot, Template, Text

    template = Template((Text("user", ("about ", Slot("topic"))),), bare=True)
    call = LLMCall(
        id="draft", name="draft", prompt=template, bound=(("topic", Ref("topic")),),
        sampling=Sampling(), type=str,
    )  # fmt: skip
    nodes = {"topic": Input(id="topic", type=str), "draft": call}
    given = {"name": "small", "nodes": nodes, "output": Ref("draft"), "type": str, **changes}
    return Workflow(**given)


def test_a_malformed_workflow_is_refused_and_the_node_named() -> None:
    behind = dict(reversed(list(small().nodes.items())))
    for nodes, match in (
        (behind, "node 'draft' needs 'topic', which stands behind it"),
        ({"draft": small().nodes["draft"]}, "node 'draft' needs 'topic', which stands nowhere"),
        ({"topic": small().nodes["topic"]}, "the output of 'small' needs 'draft'"),
        (
            {**small().nodes, "other": small().nodes["draft"]},
            "'draft' stands under the name 'other'",
        ),
    ):
        with pytest.raises(WorkflowError, match=match):
            make_plan(small(nodes=MappingProxyType(nodes)), [])


def test_a_rule_that_breaks_the_plan_is_named_with_the_node() -> None:
    def lose_input(plan: Plan) -> Plan:
        nodes = {"draft": plan.parts[0].workflow.nodes["draft"]}
        return replace(plan, parts=(replace(plan.parts[0], workflow=small(nodes=nodes)),))

    def lose_rows(plan: Plan) -> Plan:
        return replace(plan, parts=(replace(plan.parts[0], rows=1),))

    def change_type(plan: Plan) -> Plan:
        return replace(plan, parts=(replace(plan.parts[0], workflow=small(type=int)),))

    def mix_order(plan: Plan) -> Plan:
        return replace(plan, parts=(replace(plan.parts[0], order=array("i", [0, 0])),))

    def merge_too_much(plan: Plan) -> Plan:
        classes = {"topic": array("i", [0, 0])}
        part = replace(plan.parts[0], classes=classes)
        return replace(plan, parts=(part,), uses=array("i", [2]))

    def drop_part(plan: Plan) -> Plan:
        return replace(plan, parts=())

    start = Plan((Part(small(), 2, [{"topic": "a"}, {"topic": "b"}]),), numbering=Numbering())
    for rule, match in (
        (lose_input, "'lose_input' broke the plan: node 'draft' needs 'topic'"),
        (lose_rows, "'lose_rows' broke the plan: 'small': 2 rows became 1"),
        (change_type, "'change_type' broke the plan: 'small': its output has another type"),
        (mix_order, "'mix_order' broke the plan: 'small': the order"),
        (merge_too_much, "'merge_too_much' broke the plan: node 'topic' has classes"),
        (drop_part, "'drop_part' broke the plan: 1 workflows became 0"),
    ):
        with pytest.raises(EngineError, match=match):
            optimize(start, [rule])


def test_a_rule_may_not_lose_a_side_effect() -> None:
    @plait.workflow
    def noted(topic: str) -> str:
        note(topic)
        return topic

    def lose_note(plan: Plan) -> Plan:
        workflow = plan.parts[0].workflow
        nodes = {k: n for k, n in workflow.nodes.items() if k != "note"}
        return replace(
            plan, parts=(replace(plan.parts[0], workflow=replace(workflow, nodes=nodes)),)
        )

    start = Plan((Part(noted.workflow, 0, ()),), numbering=Numbering())
    with pytest.raises(EngineError, match="side effect of node 'note'"):
        optimize(start, [lose_note])
    assert "note" in optimize(start).parts[0].workflow.nodes


def test_observers_see_every_rule() -> None:
    seen: list[tuple[str, bool]] = []
    make_plan(small(), [{"topic": "a"}], observe=lambda r, a, b: seen.append((r.__name__, a is b)))
    assert [name for name, _ in seen] == NAMES
    assert dict(seen)["fold_constants"] and dict(seen)["prune_unused"]
    assert not dict(seen)["merge_calls"]


def test_folding_a_part_that_is_not_there_is_left_to_the_row() -> None:
    from plait.dag.nodes import Project

    nodes = {
        "topic": Input(id="topic", type=str),
        "part": Project(id="part", of=Lit({"a": 1}), path=("b",)),
    }
    plan = make_plan(small(nodes=nodes, output=Ref("part")), [{"topic": "x"}])
    assert "part" in plan.parts[0].workflow.nodes


def test_verbose_shows_what_each_rule_changed() -> None:
    case = read_cases(HERE / "merge_calls.txt", TOOLS)[0]
    told = Told()
    make_plan(case.workflow, case.rows, observe=told)
    text = str(told)
    assert [line.split()[2].rstrip(":") for line in text.splitlines() if line[:3] == "-- "] == [
        "written", *NAMES,
    ]  # fmt: skip
    assert "-- after prune_unused: Leave out nodes whose values nothing asks for.\nsame as" in text
    assert "12 LLM calls -> 4" in text.partition("after merge_calls")[2]
    heads = [line for line in text.splitlines() if line.startswith("-- after ")]
    assert all(head.endswith(".") for head in heads), "a sentence is cut"


def test_verbose_shows_what_changed_behind_the_part_of_a_prompt_that_is_shown() -> None:
    @plait.llm
    def advise(reader: str, document: str) -> str:
        rules = "Advise the reader. " * 8
        return rules + plait.unordered(f"R: {reader}", f"D: {document}", between=" ")

    @plait.workflow
    def flow(reader: str, document: str) -> str:
        return advise(reader, document)

    told = Told()
    rows = [{"reader": f"reader {n}", "document": "one for all"} for n in range(4)]
    make_plan(flow.workflow, rows, observe=told)
    (changed,) = (part for part in told.parts if part.startswith("-- after reorder_parts"))
    _, line = changed.splitlines()
    assert line.startswith("prompt of %3, now: Advise the reader. ")
    assert line.endswith("D: {document} R: {reader}")


def test_a_write_of_a_side_that_is_never_taken_does_not_run() -> None:
    written: list[str] = []

    @tool
    def put(text: str) -> str:
        written.append(text)
        return text

    def flow(topic: str) -> str:
        sure = plait.when(True, put(topic), "")
        return plait.when(False, put("never"), sure)

    with Engine(backend="fake") as engine:
        run = engine.run(plait.workflow(flow), [{"topic": "a"}, {"topic": "b"}])
    assert run.outputs == ["a", "b"] and sorted(written) == ["a", "b"]
