"""Plans: counts are exact or absent, against brute force over the rows."""

from __future__ import annotations

import json
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import plait
from plait.dag.plan import Plan, Step, make_plan
from plait.dag.workflow import as_workflow

from .operators import draft, extract, good, lookup, review, search, send, solve


@plait.workflow
def desk(topic: str, facts: dict[str, Any], limit: int = 3) -> Any:
    text = draft(topic)
    found = search(facts["query"], limit)
    names = plait.map(lookup, extract(text).names)
    chosen = plait.when(good(text), lambda: solve(topic), "none")
    send(chosen)
    return review(text, [draft("always this"), names[0], found[0]])


def step(plan: Plan, id: str) -> Step:
    (found,) = [s for s in plan.steps if s.id == id]
    return found


ROWS: list[dict[str, Any]] = [
    {"topic": "bees", "facts": {"query": "q"}},
    {"topic": "bees", "facts": {"query": "q", "other": 1}, "limit": 3},
    {"topic": "ants", "facts": {"query": "q"}, "limit": 4},
]


def test_calls_and_distinct_calls() -> None:
    plan = make_plan(desk.workflow, ROWS)
    assert (step(plan, "draft").calls, step(plan, "draft").distinct) == (3, 2)
    assert (step(plan, "search").calls, step(plan, "search").distinct) == (3, None)  # it reads
    assert (step(plan, "draft_2").calls, step(plan, "draft_2").distinct) == (3, 1)
    # Equal drafts are one value, known or not, and so is what is extracted from them.
    assert (step(plan, "extract").calls, step(plan, "extract").distinct) == (3, 2)
    assert (step(plan, "solve").when, step(plan, "solve").calls) == ("branch", 3)
    assert (step(plan, "lookup").when, step(plan, "lookup").calls) == ("item", None)
    assert (step(plan, "send").when, step(plan, "send").effect) == ("row", "write")


def test_depth_is_the_longest_chain_of_calls() -> None:
    plan = make_plan(desk.workflow, ROWS)
    # draft, extract, lookup in the map, review
    assert (plan.depth, step(plan, "review").depth, step(plan, "solve").depth) == (4, 4, 1)
    assert step(plan, "send").depth == 3  # good stands before the branch


def test_totals_say_when_values_decide_the_rest() -> None:
    plan = make_plan(desk.workflow, ROWS)
    assert plan.calls() == (12, True)  # draft, draft_2, extract, review; solve may run
    assert plan.calls(tools=True) == (9, True)  # search, good, send; lookup per item
    alone = make_plan(as_workflow(draft), ROWS)
    assert alone.calls() == (3, False) and alone.calls(tools=True) == (0, False)
    assert (alone.models, plan.models) == (("default",), ("default", "big"))


def test_a_loop_without_a_condition_makes_all_its_rounds() -> None:
    @plait.workflow
    def fixed(topic: str) -> str:
        return plait.loop(draft, topic, max_iters=5)

    @plait.workflow
    def open_ended(topic: str) -> str:
        return plait.loop(draft, topic, until=good, max_iters=5)

    assert make_plan(fixed.workflow, ROWS).calls() == (15, False)
    assert make_plan(open_ended.workflow, ROWS).calls() == (0, True)


@given(st.lists(st.fixed_dictionaries({
    "topic": st.one_of(st.text(max_size=2), st.integers(0, 2), st.lists(st.integers(0, 1))),
})))  # fmt: skip
def test_distinct_calls_are_counted_exactly(rows: list[dict[str, Any]]) -> None:
    expected = len({json.dumps(row["topic"]) for row in rows})
    assert step(make_plan(as_workflow(draft), rows), "draft").distinct == expected


def test_a_row_that_will_fail_is_counted_on_its_own() -> None:
    plan = make_plan(as_workflow(draft), [{"topic": "a"}, {"other": 1}, {"topic": "a"}])
    assert (step(plan, "draft").calls, step(plan, "draft").distinct) == (3, 2)


def test_explain_names_numbers_and_shared_text() -> None:
    text = str(make_plan(desk.workflow, ROWS))
    for part in (
        "workflow desk: 3 rows",
        "%4 = LLMCall draft(topic=%1)",
        "model default, at most 64 tokens, 3 calls -> 2, prefill ",
        ", 34 characters shared in front",
        "prompt: system: You write short notes. user: Write about {topic}.",
        "%5 = ToolCall search(query=%2.query, limit=%3)",
        "= Map map_lookup(over=%6.names)",
        "pure tool, 1 call per item",
        "at most 3 conversations",
        "prompt: as in %4",
        "total: 12 LLM calls -> 8 and more as values decide",
    ):
        assert part in text, f"{part}\nnot in\n{text}"


def test_the_plan_as_json_holds_every_step() -> None:
    plan = make_plan(desk.workflow, ROWS)
    data = json.loads(plan.to_json())
    assert [s["id"] for s in data["steps"]] == [s.id for s in plan.steps]
    prefill = data["totals"].pop("prefill")
    assert data["totals"] == {
        "depth": 4, "llm_calls": 12, "llm_calls_open": True, "llm_calls_merged": 8,
        "tool_calls": 9, "tool_calls_open": True, "tool_calls_merged": 8,
    }  # fmt: skip
    assert prefill["asked"] >= prefill["merged"] >= prefill["computed"] > 0
    assert make_plan(desk.workflow, ROWS).as_dict() == plan.as_dict()


def test_a_live_program_has_an_open_plan() -> None:
    @plait.workflow
    async def live(topic: str) -> str:
        return await draft.acall(topic)

    plan = make_plan(live.workflow, ROWS)
    assert plan.live and plan.calls() == (0, True) and "a live program" in str(plan)


def test_planning_is_linear_in_rows() -> None:
    def calls(rows: int) -> int:
        """Python functions entered while planning; seconds would depend on the machine."""
        items = [{"topic": f"topic {i % 77}", "facts": {"query": i % 50}} for i in range(rows)]
        entered = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal entered
            entered += event == "call"

        sys.setprofile(count)
        try:
            plan = make_plan(desk.workflow, items)
        finally:
            sys.setprofile(None)
        assert step(plan, "draft").distinct == 77 and step(plan, "good").distinct == 77
        return entered

    assert calls(8_000) < 2.2 * calls(4_000)
    assert calls(8_000) < 40 * 8_000
