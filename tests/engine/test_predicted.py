"""What the cost model says of single nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import plait
from plait import llm, workflow
from plait.dag.estimates import Estimates
from plait.dag.plan import make_plan
from plait.dag.workflow import as_workflow
from plait.engine.predicted import expectation, prediction
from plait.engine.settings import Settings
from plait.testing import FakeBackend


@dataclass(frozen=True)
class Flat:
    """Costs that make sums easy."""

    step: float = 0.01
    token: float = 0.001
    token_context: float = 0.0
    decode_row: float = 0.002
    kv_token: float = 0.0
    kv_bytes: int = 100
    load: float = 3.0
    offload: float = 1e9
    restore: float = 1e9
    matmul_peak: float = 0.0


@llm(max_tokens=8)
def draft(topic: str) -> str:
    return f"Write about {topic}"


@workflow
def note(text: str) -> str:
    return draft(text)


def test_a_workflow_mapped_twice_has_two_predictions() -> None:
    @workflow
    def twice(few: list[str], many: list[str]) -> list[list[str]]:
        return [plait.map(note, few), plait.map(note, many)]

    plan = make_plan(twice.workflow, [{"few": ["a"], "many": ["b", "c", "d"]}])
    found = prediction(plan, {"default": Flat()}, {"nodes": {}}, {}, {}, Estimates())
    assert found is not None
    calls = {name: node["calls"] for name, node in found["nodes"].items()}
    assert calls == {"map_note/draft": 1, "map_note_2/draft": 3}
    assert 0 < found["nodes"]["map_note/draft"]["seconds"] < found["seconds"]


def test_what_was_expected_before_is_told_with_loads_where_models_take_turns() -> None:
    @llm(model="big", max_tokens=8)
    def review(text: str) -> str:
        return f"Review {text}"

    @workflow
    def reviewed(topic: str) -> str:
        return review(draft(topic))

    plan = make_plan(reviewed.workflow, [{"topic": "a"}, {"topic": "b"}, {"topic": "a"}])
    costs = {"default": Flat(), "big": Flat()}
    stats: dict[str, Any] = {"nodes": {}}
    for together, loads in ((True, ()), (False, ("default", "big"))):
        found = prediction(plan, costs, stats, {}, {}, Estimates(), together)
        assert found is not None
        assert found["before"]["loads"] == loads and found["before"]["rehearsed"] is None
        assert {name: node["decode"] for name, node in found["nodes"].items()} == {
            "draft": 16, "review": 16
        }  # fmt: skip
        assert found["before"]["decode_tokens"] == 32.0
    assert prediction(plan, {"default": Flat()}, stats, {}, {}, Estimates()) is None


def test_the_parts_of_several_generations_add_up_to_the_whole() -> None:
    @llm(max_tokens=8, n=3, temperature=1.0)
    def drafts(topic: str) -> list[str]:
        return f"Write about {topic}"  # type: ignore[return-value]

    plan = make_plan(as_workflow(drafts), [{"topic": "a"}, {"topic": "b"}])
    costs = {"default": Flat(kv_token=1e-4)}
    found = prediction(plan, costs, {"nodes": {}}, {}, {}, Estimates())
    assert found is not None and found["before"]["decode_tokens"] == 48.0
    assert found["nodes"]["drafts"]["decode"] == 48
    assert found["nodes"]["drafts"]["seconds"] == pytest.approx(found["seconds"])


def test_measured_seconds_are_shared_out_by_generations_that_read_one_prompt() -> None:
    """Two nodes with as many tokens in as many answers: one has read each prompt once for three."""

    @llm(max_tokens=8, n=3, temperature=1.0)
    def drafts(topic: str) -> list[str]:
        return f"Write about {topic}"  # type: ignore[return-value]

    @workflow
    def both(topic: str) -> list[Any]:
        return [drafts(topic), draft(topic)]

    plan = make_plan(both.workflow, [{"topic": "a"}])
    counted = {"prompt_tokens": 90, "cached_tokens": 90, "completion_tokens": 24}
    stats = {"nodes": {"drafts": {"calls": 1, **counted}, "draft": {"calls": 3, **counted}}}
    work = {"default": {"steps": 24, "generated_tokens": 48, "step_seconds": 1.0}}
    costs = {"default": Flat(step=0.0, decode_row=0.0, kv_token=1.0)}
    found = prediction(plan, costs, stats, work, {}, Estimates())
    assert found is not None
    seconds = [found["nodes"][name]["engine_seconds"] for name in ("drafts", "draft")]
    assert sum(seconds) == pytest.approx(1.0)
    assert seconds[0] / seconds[1] == pytest.approx((90 / 3 + 4) / (30 + 4))


def test_nothing_is_expected_of_a_fake_model() -> None:
    settings = Settings("w.py:note", "rows.jsonl", backend="fake")
    rows = [{"text": "a"}]
    assert expectation(FakeBackend(), note.workflow, rows, Estimates(), settings) is None
