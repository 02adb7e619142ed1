"""Several workflows at once: their one plan before they run, and what their time is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from plait import ConfigError, Engine, tool, workflow
from plait.dag.plan import Plan
from plait.engine.backends.backend import Backend

from .operators import draft, extend, upper

TOPICS = [{"topic": topic} for topic in ("bees", "ants", "bees")]


@workflow
def longer(topic: str) -> str:
    return extend(draft(topic))


@workflow
def louder(topic: str) -> str:
    return upper(draft(topic))


def test_the_plan_of_several_is_explained_before_they_run(engine: Engine) -> None:
    batches = [(longer, TOPICS), (louder, TOPICS[:2])]
    plan = engine.explain_together(batches)
    assert plan.rows == 5 and len(plan.parts) == 2
    first, second = [step for step in plan.steps if step.id == "draft"]
    assert first.merged == 2 and second.same_as == first.number
    shown = str(plan)
    assert "longer" in shown and "louder" in shown and f"as %{first.number}" in shown
    runs = engine.run_together(batches)
    assert str(runs[0].plan) == str(runs[1].plan) == shown
    assert (
        sum(run.stats.nodes["draft"].calls - run.stats.nodes["draft"].merged for run in runs) == 2
    )
    unmerged = engine.explain_together(batches, disable=["merge_calls"])
    assert all(step.same_as is None for step in unmerged.steps)
    assert str(engine.explain_together([(longer, TOPICS)])) == str(engine.explain(longer, TOPICS))


def test_of_no_workflows_there_is_a_plan_of_nothing(engine: Engine) -> None:
    assert engine.explain_together([]).rows == 0 and engine.run_together([]) == []


def test_rules_that_are_not_known_are_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="merging"):
        engine.explain_together([(longer, TOPICS)], disable=["merging"])


@tool(effect="pure")
def style_of(name: str) -> str:
    time.sleep(0.05)
    return name


@workflow
def styled(topic: str) -> list[str]:
    return [draft(topic), style_of("plain")]


def test_the_time_of_each_has_its_planning_in_it(engine: Engine) -> None:
    for run in engine.run_together([(styled, TOPICS), (longer, TOPICS)]):
        assert 0.05 <= run.stats.planning_seconds <= run.stats.seconds
        assert all(0 <= span.start <= span.end <= run.stats.seconds for span in run.stats.spans)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Plan]]:
    plans: list[Plan] = []

    def left(plan: Plan, backend: Backend) -> None:
        plans.append(plan)

    monkeypatch.setattr("plait.engine.together.left", left)
    monkeypatch.setattr("plait.engine.executor.left", left)
    yield plans


def test_a_plan_is_left_once(engine: Engine, ended: list[Plan]) -> None:
    for batches in ([(longer, TOPICS)], [(longer, TOPICS), (louder, TOPICS)]):
        (run, *_) = engine.run_together(batches)
        assert ended == [run.plan]
        ended.clear()
    run = engine.run(longer, TOPICS)
    assert ended == [run.plan]
