"""Models that take turns: the fewest loads, against a search that tries everything."""

from __future__ import annotations

import random
from collections import deque
from itertools import combinations
from typing import Any

import plait
from plait import llm, workflow
from plait.benchmarks.workflow_shapes import two_models
from plait.dag import phases as module
from plait.dag.arg import Ref, Seq
from plait.dag.nodes import Input, LLMCall, Workflow
from plait.dag.phases import make_room, phases
from plait.dag.sampling import Sampling
from plait.dag.template import Template, Text

INSTANCES = 500


def random_workflow(seed: int) -> Workflow:
    """Up to nine calls of up to four models, each needing some of those before."""
    rng = random.Random(seed)
    nodes: dict[str, Any] = {"topic": Input(id="topic", type=str)}
    for number in range(rng.randint(1, 9)):
        needs = rng.sample(list(nodes), min(len(nodes), rng.randint(1, 2)))
        nodes[f"n{number}"] = LLMCall(
            id=f"n{number}", name="n", prompt=Template((Text("user", ("x",)),)),
            bound=tuple((need, Ref(need)) for need in needs), sampling=Sampling(),
            model=rng.choice("abcd"), type=str,
        )  # fmt: skip
    return Workflow("random", nodes, Seq(tuple(Ref(id) for id in nodes)))


def fewest(workflow: Workflow) -> int:
    """Breadth first over (calls done, model there), one call at a time: what it finds is least."""
    calls = {id: n for id, n in workflow.nodes.items() if isinstance(n, LLMCall)}
    start: tuple[frozenset[str], str | None] = (frozenset({"topic"}), None)
    loads, queue = {start: 0}, deque([start])
    best = len(calls) + 1
    while queue:
        done, there = queue.popleft()
        if len(done) == len(workflow.nodes):
            best = min(best, loads[done, there])
            continue
        for id, node in calls.items():
            if id in done or not done.issuperset(node.needs()):
                continue
            following = (done | {id}, node.model)
            price = loads[done, there] + (node.model != there)
            if price < loads.get(following, best):
                loads[following] = price
                queue.append(following)
    return best


def test_no_order_of_loads_is_shorter() -> None:
    for seed in range(INSTANCES):
        workflow = random_workflow(seed)
        assert len(phases(workflow)) == fewest(workflow), seed


def test_the_rule_of_thumb_is_close(monkeypatch: Any) -> None:
    exact = [len(phases(random_workflow(seed))) for seed in range(INSTANCES)]
    monkeypatch.setattr(module, "SEARCHED", 0)
    thumb = [len(phases(random_workflow(seed))) for seed in range(INSTANCES)]
    gap = sum(thumb) / sum(exact) - 1
    print(f"rule of thumb: {gap:.2%} more loads over {INSTANCES} instances")
    assert all(t >= e for t, e in zip(thumb, exact, strict=True)) and gap < 0.05


def test_what_is_there_need_not_be_loaded() -> None:
    graph = two_models.workflow
    assert phases(graph) == ("small", "big", "small", "big")
    assert phases(graph, resident=["small"]) == ("big", "small", "big")


def test_bodies_ask_for_their_models_in_turn() -> None:
    @llm(model="a")
    def first(text: str) -> str:
        return text

    @llm(model="b")
    def second(text: str) -> str:
        return text

    @workflow
    def pair(text: str) -> str:
        return second(first(text))

    @workflow
    def mapped(texts: list[str]) -> list[str]:
        return plait.map(pair, texts)

    @workflow
    def looped(text: str) -> str:
        return first(plait.loop(pair, text, max_iters=2))

    assert phases(mapped.workflow) == ("a", "b")
    assert phases(looped.workflow) == ("a", "b", "a", "b", "a")


def test_room_for_a_model_is_made_without_trying_all_sets() -> None:
    resident, asked = frozenset("abcdefghijklmnopqrst"), []

    def fits(models: frozenset[str], limit: int = 21) -> bool:
        asked.append(models)
        return len(models) <= limit

    assert make_room("z", resident, fits) == [()] and len(asked) == 1
    found = make_room("z", resident, lambda models: fits(models, 20))
    assert found == [(one,) for one in sorted(resident)] and len(asked) == 1 + 1 + 20
    fewer = frozenset("abcd")
    pairs = make_room("z", fewer, lambda models: fits(models, 3))
    assert pairs == list(combinations("abcd", 2))
    assert make_room("z", fewer, lambda models: False) == [tuple("abcd")]
