"""Predicted beside actual: nothing that was predicted or ran is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import plait
from plait import llm, workflow
from plait.dag.analyze import analysis, compare, history
from plait.dag.cost import Cost, NodeCost, RehearsedCost
from plait.dag.estimates import Estimates, operator_key
from plait.dag.explain import told_cost
from plait.dag.foreseen import COLUMNS
from plait.dag.nodes import Workflow
from plait.dag.observed import Sketch
from plait.dag.plan import Plan, make_plan, plan_together
from plait.dag.workflow import as_workflow

from .operators import draft, extract, good, review, solve
from .test_steps import TWICE, noted_twice


@workflow
def repairing(topic: str) -> str:
    return plait.when(good(topic), lambda: draft(topic), lambda: review(topic, ["x"]))


def ran(operator: str = "LLMCall", calls: int = 10, prompt: int = 40, answers: int = 50) -> Any:
    return {
        "operator": operator, "calls": calls, "merged": 0, "prompt_tokens": prompt,
        "cached_tokens": 0, "completion_tokens": answers, "seconds": 0.01 * calls,
    }  # fmt: skip


def said(calls: int = 10, prompt: int = 40, answers: int = 50) -> NodeCost:
    return NodeCost(calls, 0, prompt, prompt, answers, 0.01)


GOOD = {"good": ran("ToolCall", prompt=0, answers=0)}
SAID_GOOD = {"good": said(prompt=0, answers=0)}


def plan_of(workflow: Workflow, rows: list[dict[str, Any]]) -> Plan:
    return make_plan(workflow, rows)


def cost(**nodes: NodeCost) -> Cost:
    rehearsed = RehearsedCost(10, 0, 0, 0, 0, 0, 0, 0, 0, 0, nodes)
    return Cost(1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (), (), "decode", False, rehearsed=rehearsed)


PLAN = plan_of(repairing.workflow, [{"topic": f"{i}"} for i in range(10)])


def stats(seconds: float = 1.0, **nodes: Any) -> dict[str, Any]:
    return {"seconds": seconds, "nodes": nodes}


def test_a_side_that_no_row_took_is_told() -> None:
    predicted = cost(**SAID_GOOD, draft=said(5, 20, 25), review=said(5, 20, 25))
    actual = stats(**GOOD, draft=ran(calls=5, prompt=20, answers=25))
    entries = {e["node"]: e for e in compare(PLAN, predicted, actual)}
    assert entries["review"]["predicted"] == (5, 20, 25)
    assert entries["review"]["actual"] == (0, 0, 0)
    assert entries["all"]["predicted"] == (20, 40, 50) and entries["all"]["actual"][2] == 25
    text = analysis(PLAN, predicted, actual)
    assert "off: review made 0 calls, not 5: " in text
    # There are no answers and no prompts that could have been longer.
    assert text.count("off:") == 1


def test_a_node_that_ran_unforeseen_is_told_and_counted() -> None:
    predicted = cost(**SAID_GOOD, draft=said())
    actual = stats(**GOOD, draft=ran(), review=ran(calls=3, prompt=9, answers=30))
    assert compare(PLAN, predicted, actual)[-1]["actual"] == (23, 49, 80)
    text = analysis(PLAN, predicted, actual)
    assert "off: review made 3 calls, and none were foreseen" in text
    assert text.count("off:") == 1


def test_calls_of_a_live_program_are_counted() -> None:
    @workflow
    async def live(topic: str) -> str:
        return await draft.acall(topic)

    plan = plan_of(live.workflow, [{"topic": "a"}])
    text = analysis(plan, None, stats(draft=ran()))
    assert "every assumption held" not in text and "draft made 10 calls, and none" in text


def test_what_held_is_not_told() -> None:
    predicted, actual = cost(**SAID_GOOD, draft=said()), stats(**GOOD, draft=ran())
    assert "every assumption held" in analysis(PLAN, predicted, actual)
    slow = analysis(PLAN, predicted, stats(2.0, **GOOD, draft=ran()))
    assert "all counts held; the machine was slower than its costs (2.00x)" in slow


def test_without_a_price_calls_are_counted_and_what_is_known_of_tools_and_answers_is_said() -> None:
    actual = stats(**GOOD, draft=ran(calls=4, answers=48))
    entries = {e["node"]: e for e in compare(PLAN, None, actual)}
    assert entries["good"]["predicted"] == (10, 0, 0) and entries["good"]["actual"][0] == 10
    assert entries["good"]["seconds_each"] == {"predicted": None, "actual": pytest.approx(0.01)}
    assert entries["draft"]["lengths"] == "limit" and entries["draft"]["predicted"][2] == 640
    text = analysis(PLAN, None, actual)
    assert "<=640 -> 48" in text and "- -> 10.0 ms" in text
    assert "answers of draft had 12 tokens; nothing was known of them but at most 64" in text
    key, look = (operator_key(PLAN.parts[0].workflow.nodes[n]) for n in ("draft", "good"))
    known = Estimates(given={key: 12.0, look: 0.5})
    entries = {e["node"]: e for e in compare(PLAN, None, actual, known)}
    assert entries["draft"]["lengths"] == "given" and entries["draft"]["predicted"][2] == 120
    text = analysis(PLAN, None, actual, known)
    assert "answers of draft" not in text and "off: good took 0.010 s, not 0.500 s" in text


def test_a_side_that_fewer_rows_took_is_no_fault() -> None:
    """Each side is counted for all rows: no more can take it."""
    actual = stats(**GOOD, draft=ran(calls=7), review=ran(calls=3))
    entries = {e["node"]: e for e in compare(PLAN, None, actual)}
    assert entries["draft"]["at_most"] == COLUMNS and entries["all"]["at_most"]
    text = analysis(PLAN, None, actual)
    assert "<=10 -> 7" in text and "<=10 -> 3" in text
    assert "branches went otherwise" not in text


def test_calls_that_values_decide_are_not_said_to_be_unforeseen() -> None:
    @workflow
    def many(topic: str) -> list[str]:
        return plait.map(draft, extract(topic).names)

    actual = stats(extract=ran(calls=1), **{"map_draft/draft": ran(calls=12)})
    text = analysis(plan_of(many.workflow, [{"topic": "a"}]), None, actual)
    assert "? -> 12" in text and "map_draft/draft made 12 calls: values decide how many" in text


def test_a_table_is_aligned_and_fits_a_terminal() -> None:
    predicted = cost(**SAID_GOOD, draft=said(1_000, 64_000, 64_000))
    actual = stats(**GOOD, draft=ran(calls=1_000, prompt=63_000, answers=12_000))
    head, *table = analysis(PLAN, predicted, actual).splitlines()[:4]
    assert head.startswith("predicted -> actual") and head.endswith("a call takes")
    ends = [head.index(name) + len(name) for name in (*COLUMNS, "a call takes")]
    assert all(len(line) <= 100 for line in (head, *table))
    assert all(line[end : end + 2].strip() == "" for line in table for end in ends)


def test_the_batch_as_a_whole_is_compared_as_far_as_both_sides_are_known() -> None:
    rehearsed = RehearsedCost(10, 640, 0, 0, 0, 0, 0, 0, 0, 0, {}, tool_calls=8, tool_seconds=0.5)
    said = replace(cost(), prefill_seconds=0.25, decode_steps=30.0, rehearsed=rehearsed)
    told = {"steps": 33, "step_seconds": 0.5, "loads": 3, "models": 2, "kv_peak_tokens": 700}
    actual = {**stats(2.0, **GOOD), "engine": told}
    whole = compare(PLAN, said, actual)[-1]
    assert whole["kv_peak_tokens"] == {"predicted": 640, "actual": 700}
    assert whole["loads"] == {"predicted": 2, "actual": 3}, "every model once at least"
    assert "each model loaded once before the first row" in told_cost(
        replace(said, prefill_tokens=9)
    )
    for workers, loads in ((1, 1), (2, 2)):  # several have the first model when they begin
        one = replace(said, loads=("a",), workers=workers)
        alone = {**actual, "engine": {**told, "models": 1}}
        assert compare(PLAN, one, alone)[-1]["loads"]["predicted"] == loads
        assert f"{loads} model load" in told_cost(one)
    text = analysis(PLAN, said, actual)
    for line in (
        "engine at work: 0.25 s predicted, 0.50 s actual",
        "engine steps: 30 predicted, 33 actual",
        "tools, all calls together: 0.50 s predicted, 0.10 s actual",
        "KV tokens at the peak: 640 predicted, 700 actual", "model loads: 2 predicted, 3 actual",
    ):  # fmt: skip
        assert line in text
    unknown = compare(PLAN, said, stats(2.0, **GOOD))[-1]
    assert unknown["seconds"] == {"predicted": 1.0, "actual": 2.0}
    assert not {"loads", "kv_peak_tokens", "decode_steps", "engine_seconds"} & set(unknown)


def test_turns_of_an_agent_are_no_equal_values() -> None:
    @workflow
    def solved(question: str) -> str:
        return solve(question)

    plan = plan_of(solved.workflow, [{"question": f"{i}"} for i in range(10)])
    actual = stats(
        solve=ran("Agent", calls=30, prompt=120, answers=150),
        **{"solve/lookup": ran("ToolCall", 20, 0, 0)},
    )
    text = analysis(plan, cost(solve=said(20, 80, 100)), actual)
    assert "off: solve took 30 turns, not 20" in text and text.count("off:") == 1


def test_a_workflow_mapped_twice_is_compared_twice() -> None:
    plan = plan_of(noted_twice.workflow, TWICE)
    actual = stats(**{"map_note/draft": ran(calls=1), "map_note_2/draft": ran(calls=3)})
    entries = {e["node"]: e for e in compare(plan, None, actual)}
    for name, calls in (("map_note/draft", 1), ("map_note_2/draft", 3)):
        assert entries[name]["predicted"][0] == entries[name]["actual"][0] == calls


def test_several_workflows_that_make_a_call_of_one_name_are_summed() -> None:
    @workflow
    def one(topic: str) -> str:
        return draft(topic)

    rows = [{"topic": "a"}, {"topic": "b"}]
    plan = plan_together([(one.workflow, rows[:1]), (one.workflow, rows[1:])])
    (entry, _) = compare(plan, None, stats(draft=ran(calls=2)))
    assert entry["predicted"][0] == entry["actual"][0] == 2


def test_what_is_learned_of_a_workflow_mapped_twice_is_of_both_maps() -> None:
    plan = plan_of(noted_twice.workflow, TWICE)
    few, many = ran(calls=1, answers=20), ran(calls=3, answers=12)
    lengths, _ = history(stats(**{"map_note/draft": few, "map_note_2/draft": many}), plan)
    assert lengths == {"draft": 8.0}


def test_a_call_that_was_refused_has_no_length() -> None:
    @llm(max_tokens=30, n=2, temperature=1.0)
    def ask(text: str) -> list[str]:
        return f"{text}"  # type: ignore[return-value]

    answers = Sketch()
    for tokens in (5, 7, 20, 8):
        answers.add(tokens)
    counted = ran(calls=9, prompt=40, answers=40) | {"seen": {"answers": answers.as_json()}}
    plan = make_plan(as_workflow(ask), [{"text": "a"}])
    assert history(stats(ask=counted), plan)[0] == {"ask": 40 / 4}
