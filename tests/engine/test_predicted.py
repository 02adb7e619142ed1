"""What the cost model says of single nodes."""

from __future__ import annotations

from dataclasses import dataclass

import plait
from plait import llm, workflow
from plait.dag.estimates import Estimates
from plait.dag.plan import make_plan
from plait.engine.predicted import prediction


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
