"""What is told of single steps: exact where it is certain, and each node's own."""

from __future__ import annotations

import plait
from plait import workflow
from plait.dag.plan import Plan, make_plan
from plait.dag.steps import Step

from .operators import draft, good


def step(plan: Plan, name: str) -> Step:
    (found,) = [s for s in plan.steps if s.name == name]
    return found


@workflow
def careful(topic: str) -> str:
    return plait.when(good(topic), lambda: draft(topic), topic)


@plait.llm(max_tokens=8)
def judge(side: str, text: str) -> str:
    return f"{text}: judge its {side}"


@workflow
def note(text: str) -> str:
    return draft(text)


@workflow
def noted_twice(few: list[str], many: list[str]) -> list[list[str]]:
    return [plait.map(note, few), plait.map(note, many)]


TWICE = [{"few": ["a"], "many": ["b", "c", "d"]}]


def test_a_side_in_the_body_of_a_known_map_is_no_certain_call() -> None:
    @workflow
    def mapped(topics: list[str]) -> list[str]:
        return plait.map(careful, topics)

    plan = make_plan(mapped.workflow, [{"topics": ["a", "b"]}])
    found = step(plan, "map_careful/draft")
    assert (found.when, found.calls) == ("branch", 2)
    assert plan.calls() == (0, True) and plan.calls(tools=True) == (2, False)
    assert "at most 2 calls" in str(plan) and "total: 0 LLM calls and more" in str(plan)


def test_a_side_in_a_loop_without_a_condition_is_no_certain_call() -> None:
    @workflow
    def looped(topic: str) -> str:
        return plait.loop(careful, topic, max_iters=3)

    plan = make_plan(looped.workflow, [{"topic": "a"}])
    found = step(plan, "loop_careful/draft")
    assert (found.when, found.calls) == ("branch", 3)
    assert plan.calls() == (0, True)


def test_a_side_makes_no_calls_for_those_who_come_after_it() -> None:
    @workflow
    def both(topic: str, flag: bool) -> list[str]:
        return [plait.when(flag, lambda: draft(topic), "x"), draft(topic)]

    plan = make_plan(both.workflow, [{"topic": t, "flag": False} for t in "abc"])
    sure = step(plan, "draft_2")
    assert (sure.calls, sure.merged, sure.same_as) == (3, 3, None)
    assert plan.merged_calls() == 3 and "total: 3 LLM calls and more" in str(plan)
    # Nor does it compute their prompts: what it may make is there already.
    assert sure.prefill_computed and not step(plan, "draft").prefill_computed


def test_what_is_certain_makes_the_calls_of_a_side() -> None:
    @workflow
    def both(topic: str, flag: bool) -> list[str]:
        return [draft(topic), plait.when(flag, lambda: draft(topic), "x")]

    plan = make_plan(both.workflow, [{"topic": t, "flag": True} for t in "abc"])
    assert step(plan, "draft_2").same_as == step(plan, "draft").number
    assert plan.merged_calls() == 3


def test_a_map_over_a_written_list_is_counted() -> None:
    @workflow
    def judged(text: str) -> list[str]:
        return plait.map(judge, ["clarity", "style"], text=text)

    plan = make_plan(judged.workflow, [{"text": t} for t in "aab"])
    found = step(plan, "map_judge/judge")
    assert (found.calls, found.distinct, found.merged) == (6, 4, 4)
    assert plan.calls() == (6, False)
    assert plan.prefixes is not None and plan.prefixes.unknown == 0
    assert found.prefill_asked and found.prefill_asked > (found.prefill_computed or 0) > 0


def test_a_written_list_that_is_too_long_is_left_to_the_run() -> None:
    @workflow
    def judged(text: str) -> list[str]:
        return plait.map(judge, ["clarity", "style"], max_width=1, text=text)

    assert make_plan(judged.workflow, [{"text": "a"}]).calls() == (0, True)


def test_a_workflow_mapped_twice_has_two_prefills() -> None:
    plan = make_plan(noted_twice.workflow, TWICE)
    few, many = (step(plan, f"{map}/draft") for map in ("map_note", "map_note_2"))
    assert (few.calls, many.calls) == (1, 3)
    assert few.prefill_asked and many.prefill_asked
    assert few.prefill_asked < many.prefill_asked / 2


def test_the_body_of_a_map_is_not_taken_for_a_node_of_its_name() -> None:
    @workflow
    def both(topic: str) -> list[object]:
        return [draft(topic), plait.map(draft, ["b"])]

    plan = make_plan(both.workflow, [{"topic": "a"}, {"topic": "c"}])
    assert plan.prefixes is not None
    assert [g.node for g in plan.prefixes.groups] == ["draft", "map_draft/draft"]
