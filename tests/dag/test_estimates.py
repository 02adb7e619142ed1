"""Where expectations come from, how sure they are, and hints that contradict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plait import llm, tool, workflow
from plait.dag.errors import ConfigError
from plait.dag.estimates import Estimates, operator_key
from plait.dag.hints import read_hints
from plait.dag.names import named_nodes
from plait.dag.nodes import LLMCall, ToolCall
from plait.dag.observed import Observed
from plait.dag.workflow import as_workflow


@llm(max_tokens=50)
def draft(topic: str) -> str:
    return f"about {topic}"


@tool(effect="pure")
def look(text: str) -> str:
    return text


@workflow
def report(topic: str) -> list[str]:
    text = draft(topic)
    return [text, draft(look(text))]


GRAPH = as_workflow(report)
NODES: dict[str, Any] = dict(named_nodes(GRAPH))
DRAFT: LLMCall = NODES["draft"]
LOOK: ToolCall = NODES["look"]


def seen(*answers: int) -> Observed:
    found = Observed()
    for tokens in answers:
        found.answers.add(tokens)
        found.value(f"{tokens}")
    return found


def test_times_of_a_tool_are_those_seen_or_the_one_that_is_said() -> None:
    key, looked = operator_key(LOOK), Observed()
    for seconds in (0.5, 1.0, 1.0, 2.0):
        looked.seconds.add(seconds)
    history = Estimates({key: looked})
    assert [share for _, share in history.operator(LOOK).times()] == [0.25, 0.75, 1.0]
    assert replace(history, given={key: 3.0}).operator(LOOK).times() == [(3.0, 1.0)]
    assert Estimates().operator(LOOK).times() == [(0.0, 1.0)]


def test_nothing_known_is_the_limit_sample_goes_before_history_and_hints_before_all() -> None:
    key = operator_key(DRAFT)
    unknown = Estimates().answer(DRAFT)
    assert (unknown.mean, unknown.high, unknown.known) == (50, 50, "limit")
    history = Estimates({key: seen(10, 12)})
    assert history.answer(DRAFT).mean == 11 and history.answer(DRAFT).known == "history"
    sample = replace(history, sample={key: seen(20, 20, 20)})
    assert sample.answer(DRAFT).mean == 20 and sample.answer(DRAFT).known == "sample"
    given = replace(sample, given={key: 30.0})
    assert given.answer(DRAFT).mean == 30 == given.operator(DRAFT).draw(0.9)
    assert given.answer(DRAFT).known == "given"


def test_more_calls_are_surer_and_no_answer_is_longer_than_it_may_be() -> None:
    key = operator_key(DRAFT)
    few = Estimates({key: seen(10, 30)}).answer(DRAFT)
    many = Estimates({key: seen(*[10, 30] * 50)}).answer(DRAFT)
    assert few.high - few.low > many.high - many.low > 0
    assert Estimates({key: seen(49, 50, 40)}).answer(DRAFT).high <= 50


def test_tools_take_the_time_they_took() -> None:
    found = Observed()
    for seconds in (0.1, 0.3):
        found.seconds.add(seconds)
    known = Estimates({operator_key(LOOK): found})
    assert known.tool(LOOK).mean == pytest.approx(0.2) and Estimates().tool(LOOK).mean == 0
    look = known.operator(LOOK)
    assert look.draw(0.2) < look.draw(0.9)


def test_a_tool_that_is_tried_again_may_take_longer() -> None:
    @tool(effect="read", timeout=2.0, retries=2)
    def fetch(text: str) -> str:
        return text

    graph = as_workflow(fetch)
    assert list(read_hints(graph, ["fetch=6"]).values()) == [6.0]
    with pytest.raises(ConfigError, match="fetch=7 contradicts its timeout=2, 3 attempts at most"):
        read_hints(graph, ["fetch=7"])


def test_an_operator_is_known_by_what_it_does_and_not_by_its_place() -> None:
    assert operator_key(NODES["draft"]) == operator_key(NODES["draft_2"])
    longer = replace(DRAFT, sampling=replace(DRAFT.sampling, max_tokens=51))
    assert operator_key(longer) != operator_key(DRAFT) != operator_key(DRAFT, "other weights")


def test_hints_are_read() -> None:
    hints = read_hints(GRAPH, ["draft=40", "look=0.5", "draft_2=40"])
    assert hints == {operator_key(DRAFT): 40, operator_key(LOOK): 0.5}
    assert read_hints(GRAPH, []) == {}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["draft=60"], "draft=60 contradicts its max_tokens=50"),
        (["draft=40", "draft=41"], "draft=40 and draft=41 contradict each other"),
        (["draft=40", "draft_2=20"], "calls of one operator"),
        (["draf=4"], "known are"),
        (["draft"], "'draft' is not NODE=NUMBER"),
        (["draft=nan", "look=-1"], "'look=-1' is not"),
        (["draft=0"], "at least one token"),
        (["look=61"], "look=61 contradicts its timeout=60: a run would end such a call"),
    ],
)
def test_hints_that_contradict_are_reported(texts: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_hints(GRAPH, texts)
    assert told in str(caught.value)
    assert str(caught.value).count("--expect") == (
        2 if len(texts) == 2 and "nan" in texts[0] else 1
    )
