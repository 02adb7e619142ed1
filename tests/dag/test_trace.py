"""What tracing records: one node per call, edges from data flow, bodies inside map and loop."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import plait
from plait import WorkflowError
from plait.dag.arg import Lit, Rec, Ref, Seq, resolve
from plait.dag.nodes import Agent, Branch, Input, LLMCall, Loop, Map, Node, Project, ToolCall
from plait.dag.workflow import as_workflow

from .operators import Facts, draft, extract, good, lookup, review, search, solve


@plait.workflow
def report(topic: str, style: str = "plain") -> str:
    text = draft(topic)
    found = plait.map(lookup, extract(text).names)
    return review(text, found)


def test_calls_become_nodes_and_data_flow_makes_the_edges() -> None:
    flow = report.workflow
    assert list(flow.nodes) == [
        "topic", "style", "draft", "extract", "extract.names", "map_lookup", "review",
    ]  # fmt: skip
    assert set(flow.graph.edges) == {
        ("topic", "draft"), ("draft", "extract"), ("extract", "extract.names"),
        ("extract.names", "map_lookup"), ("draft", "review"), ("map_lookup", "review"),
    }  # fmt: skip
    assert flow.output == Ref("review") and flow.type is str
    assert flow.models() == ("default", "big")


def test_nodes_know_types_settings_and_where_they_stand() -> None:
    nodes = report.workflow.nodes
    call = nodes["draft"]
    assert isinstance(call, LLMCall)
    assert (call.name, call.model, call.sampling.max_tokens) == ("draft", "default", 64)
    assert call.source and call.source.file == __file__
    assert nodes["extract"].type is Facts
    assert nodes["extract.names"] == Project(
        id="extract.names", of=Ref("extract"), path=("names",), type=list[str],
        source=nodes["extract.names"].source,
    )  # fmt: skip
    assert nodes["style"] == Input(
        id="style", type=str, default="plain", source=nodes["style"].source
    )


def test_a_map_holds_its_body_and_its_shared_inputs() -> None:
    @plait.workflow
    def each(query: str, limit: int) -> list[str]:
        return search(query, limit)

    @plait.workflow
    def flow(queries: list[str], limit: int) -> list[list[str]]:
        return plait.map(each, queries, limit=limit)

    node = flow.workflow.nodes["map_each"]
    assert isinstance(node, Map)
    assert (node.item, node.over, node.bound) == (
        "query",
        Ref("queries"),
        (("limit", Ref("limit")),),
    )
    assert node.type == list[list[str]]
    call = node.body.nodes["search"]
    assert isinstance(call, ToolCall) and call.tool.effect == "read"


def test_a_branch_takes_values_constants_and_functions() -> None:
    @plait.workflow
    def flow(topic: str) -> str:
        text = draft(topic)
        return plait.when(good(text), text, lambda: solve(topic))

    node = flow.workflow.nodes["when"]
    assert isinstance(node, Branch)
    assert (node.condition, node.then, node.otherwise) == (Ref("good"), Ref("draft"), Ref("solve"))
    assert node.type is str


def test_a_loop_holds_body_and_condition() -> None:
    @plait.workflow
    def flow(topic: str) -> str:
        return plait.loop(draft, topic, until=good, max_iters=3)

    node = flow.workflow.nodes["loop_draft"]
    assert isinstance(node, Loop) and node.until is not None
    assert (node.state, node.max_iters, node.type) == (Ref("topic"), 3, str)
    assert "draft" in node.body.nodes and "good" in node.until.nodes


def test_an_agent_knows_its_tools() -> None:
    node = as_workflow(solve).nodes["solve"]
    assert isinstance(node, Agent)
    assert [t.name for t in node.tools] == ["lookup", "search"]
    assert node.max_turns == 4


def test_handles_inside_lists_and_dicts_are_edges() -> None:
    @plait.workflow
    def flow(topic: str) -> dict[str, Any]:
        a, b = draft(topic), draft("bees")
        return {"both": [a, b], "pair": (a, 1), "none": None}

    output = flow.workflow.output
    assert output == Rec((
        ("both", Seq((Ref("draft"), Ref("draft_2")))),
        ("pair", Seq((Ref("draft"), Lit(1)), tuple)),
        ("none", Lit(None)),
    ))  # fmt: skip
    values = {"draft": "x", "draft_2": "y"}
    assert resolve(output, values) == {"both": ["x", "y"], "pair": ("x", 1), "none": None}


def test_chains_of_fields_are_one_node_and_made_once() -> None:
    @plait.workflow
    def flow(facts: dict[str, Any]) -> Any:
        return [facts["a"]["b"][0], facts["a"]["b"][0]]

    nodes = flow.workflow.nodes
    assert isinstance(nodes["facts.a.b[0]"], Project)
    assert nodes["facts.a.b[0]"].path == ("a", "b", 0)
    assert flow.workflow.output == Seq((Ref("facts.a.b[0]"), Ref("facts.a.b[0]")))


def test_a_lone_operator_is_a_workflow_of_one_node() -> None:
    flow = as_workflow(draft)
    assert list(flow.nodes) == ["topic", "draft"] and flow.output == Ref("draft")
    assert {node.source for node in flow.nodes.values()} == {draft.source}


def test_workflows_nest_into_one_dag() -> None:
    @plait.workflow
    def outer(topic: str) -> str:
        return review(report(topic), [report("ants")])

    nodes = outer.workflow.nodes
    assert [n for n in nodes if n.startswith("draft")] == ["draft", "draft_2"]


def test_a_live_workflow_keeps_its_function() -> None:
    @plait.workflow
    async def live(topic: str) -> str:
        return await draft.acall(topic)

    flow = live.workflow
    assert flow.live and flow.body is live.fn and list(flow.nodes) == ["topic"]


def test_calls_outside_a_workflow_say_what_to_do() -> None:
    with pytest.raises(WorkflowError, match=r"'draft' was called outside a workflow \(use engine"):
        draft("x")
    with pytest.raises(WorkflowError, match=r"plait.map was called outside a workflow"):
        plait.map(lookup, ["x"])
    with pytest.raises(WorkflowError, match="'report' was called outside a workflow"):
        report("x")


def test_compiling_raises_every_problem_of_tracing_at_once() -> None:
    @plait.workflow
    def flow(topic: str) -> str:
        a = draft(topic, 3)  # type: ignore[call-arg]
        if a:
            lookup(1)  # type: ignore[arg-type]
        for x in extract(topic).names:
            lookup(x)
        plait.loop(draft, topic, max_iters=0)
        return a + a

    with pytest.raises(WorkflowError) as caught:
        flow.workflow  # noqa: B018
    messages = [p.message for p in caught.value.problems]
    assert messages == [
        "'draft' takes 1 arguments, 2 were given",
        "the workflow tests the truth of 'draft'",
        "'lookup' wants str for 'name'; it is given int",
        "the workflow iterates over 'extract.names'",
        "max_iters=0 is not 1 to 10000",
        "the workflow computes with 'draft'",
    ]
    assert all(p.file == __file__ and p.line and p.hint for p in caught.value.problems)


def test_a_loop_that_waits_for_a_value_ends() -> None:
    @plait.workflow
    def flow(topic: str) -> str:
        while draft(topic) != "done":
            pass
        return topic

    with pytest.raises(WorkflowError, match="compares 'draft'"):
        flow.workflow  # noqa: B018


def test_an_exception_of_the_workflow_is_one_problem_with_its_line() -> None:
    @plait.workflow
    def flow(topic: str) -> str:
        return [][int("3")]

    with pytest.raises(WorkflowError, match="raised IndexError") as caught:
        flow.workflow  # noqa: B018
    assert isinstance(caught.value.__cause__, IndexError)
    assert caught.value.problems[0].line == flow.fn.__code__.co_firstlineno + 2


def test_nodes_are_frozen() -> None:
    node: Node = report.workflow.nodes["draft"]
    with pytest.raises(AttributeError):
        node.id = "other"  # type: ignore[misc]


def test_what_can_be_no_operator_is_refused_where_it_is_decorated() -> None:
    with pytest.raises(WorkflowError, match=r"test_trace.py:\d+: 'ask' is a method"):

        class Desk:
            @plait.llm
            def ask(self, topic: str) -> str:
                return topic

    with pytest.raises(WorkflowError, match=r"test_trace.py:\d+: .* not of a partial"):
        plait.llm(functools.partial(str.format, "about {}"))


def test_a_static_method_is_an_operator() -> None:
    class Desk:
        @staticmethod
        @plait.llm
        def ask(topic: str) -> str:
            return topic

    assert as_workflow(Desk.ask).name == "ask"


def test_a_broken_workflow_names_its_problems_in_the_order_of_the_source() -> None:
    @plait.workflow
    def broken(topic: str) -> str:
        first = draft(topik=topic)  # type: ignore[call-arg]
        text = draft(topic)
        plait.map(later, [text, first])
        return text + "!"

    with pytest.raises(WorkflowError) as caught:
        as_workflow(broken)
    lines = [p.line or 0 for p in caught.value.problems]
    assert all(p.hint for p in caught.value.problems)
    assert len(lines) >= 3 and lines == sorted(lines)


@plait.workflow
def later(text: str) -> str:
    return draft(nope=text)  # type: ignore[call-arg]
