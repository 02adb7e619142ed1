"""Liveness of prefixes: counted from the plan, and what the local engine makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, workflow
from plait.dag.nodes import LLMCall
from plait.dag.plan import make_plan
from plait.dag.workflow import as_workflow
from plait.engine.liveness import Liveness, slot_ends
from plait.testing import assert_same_rows

from .llm import models


@llm(max_tokens=4)
def ask(document: str, question: str) -> str:
    return plait.prompt(
        plait.system("Answer briefly."), plait.user(f"Text: {document} Question: {question}")
    )


@workflow
def twice(document: str, question: str) -> str:
    return ask(document, ask(document, question))


DOCUMENTS = [f"document {i} " * 12 for i in range(4)]


def rows(count: int) -> list[dict[str, Any]]:
    return [{"document": DOCUMENTS[i % 4], "question": f"q{i // 2}"} for i in range(count)]


def leases(batch: list[dict[str, Any]]) -> list[float]:
    graph = as_workflow(ask)
    plan = make_plan(graph, batch)
    liveness, node = Liveness(plan), graph.nodes["ask"]
    assert isinstance(node, LLMCall)
    found = []
    for place, row in enumerate(batch):
        lease = liveness.lease(0, place, node, row)
        assert lease is not None
        found.append(lease())
    return found


def test_a_document_is_wanted_until_its_last_row() -> None:
    batch = [{"document": d, "question": q} for d, q in (("a", "1"), ("b", "2"), ("a", "3"))]
    text = len("Answer briefly.Text: a Question: 1")
    static, document = len("Answer briefly.Text: "), len("Answer briefly.Text: a Question: ")
    assert leases(batch) == pytest.approx([document / text, static / text, static / text])


def test_what_documents_begin_with_is_wanted_until_the_last_of_them() -> None:
    begun = "the same conversation " * 10
    batch = [{"document": begun + end, "question": "?"} for end in ("one", "two", "three")]
    batch.insert(1, {"document": "another", "question": "?"})
    static = len("Answer briefly.Text: ")
    lengths = [static + len(row["document"]) + len(" Question: ?") for row in batch]
    # "two" and "three" agree in one more letter, which is not worth telling apart.
    wanted = [static + len(begun), static, static + len(begun), static]
    shares = [length / whole for length, whole in zip(wanted, lengths, strict=True)]
    assert leases(batch) == pytest.approx(shares)


def test_equal_calls_count_once() -> None:
    batch = [{"document": "a", "question": "1"}] * 3
    plan = make_plan(as_workflow(ask), batch)
    assert set(Liveness(plan).left.values()) == {1}
    unmerged = make_plan(as_workflow(ask), batch, disable=["merge_calls"])
    assert set(Liveness(unmerged).left.values()) == {3}


def test_places_of_slots_in_a_prompt() -> None:
    node = as_workflow(ask).nodes["ask"]
    assert isinstance(node, LLMCall)
    values = {"document": "dd", "question": "qqq"}
    prompt = "".join(m.content for m in node.prompt.render(values))  # type: ignore[union-attr]
    ends, total = slot_ends(node.prompt, values)  # type: ignore[arg-type]
    assert total == len(prompt) and [prompt[:e] for e in ends] == [
        "Answer briefly.Text: ", "Answer briefly.Text: dd Question: ", prompt,
    ]  # fmt: skip


def test_of_an_agent_the_first_prompt_is_counted() -> None:
    @plait.tool(effect="pure")
    def fine(text: str) -> str:
        return text

    @plait.agent(tools=[fine])
    def solve(topic: str) -> str:
        return f"solve {topic} now"

    graph = as_workflow(solve)
    liveness, node = Liveness(make_plan(graph, [{"topic": t} for t in "ab"])), graph.nodes["solve"]
    assert isinstance(node, LLMCall)
    first = liveness.lease(0, 0, node, {"topic": "a"})
    assert first is not None and first() == pytest.approx(len("solve ") / len("solve a now"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


def prefilled(model: Path, kv_memory: int, **options: Any) -> tuple[plait.Run, int]:
    with Engine(model=model, kv_memory=kv_memory) as engine:
        run = engine.run(twice, rows(16), **options)
        counters = engine.backend.llm("default").counters()  # type: ignore[attr-defined]
        assert counters.free_pages + counters.cached_pages + counters.held_pages == (
            counters.total_pages
        )
        return run, counters.prefill_tokens


def test_rows_are_the_same_however_little_memory_there_is(model: Path) -> None:
    page = 2 * 2 * 2 * 8 * 4 * 16  # keys and values of 2 layers, 2 heads of 8 floats, 16 tokens
    reference, _ = prefilled(model, 4096 * page, plan=False)
    assert all(row.ok for row in reference)
    for pages in (40, 90, 4096):
        for options in (
            {"plan": False},
            {},
            {"disable": ["liveness"]},
            {"disable": ["merge_calls"]},
        ):
            run, _ = prefilled(model, pages * page, **options)
            assert_same_rows(reference.rows, run.rows)


def test_a_plan_computes_no_more_than_it_promises(model: Path) -> None:
    page = 2 * 2 * 2 * 8 * 4 * 16
    plain, asked = prefilled(model, 60 * page, plan=False)
    planned, computed = prefilled(model, 60 * page)
    assert computed < asked


def test_conversations_of_which_no_two_are_equal_share_what_they_begin_with(model: Path) -> None:
    begun = [f"{topic} " * 24 for topic in ("bicycles", "bread", "weather")]
    batch = [{"document": begun[i % 3] + f"and {i}", "question": "so?"} for i in range(18)]
    page = 2 * 2 * 2 * 8 * 4 * 16

    def computed(**options: Any) -> tuple[plait.Run, int]:
        with Engine(model=model, kv_memory=26 * page, max_rows=1) as engine:
            run = engine.run(ask, batch, **options)
            return run, engine.backend.llm("default").counters().prefill_tokens  # type: ignore[attr-defined]

    ordered, few = computed()
    as_given, many = computed(disable=["order_rows"])
    assert_same_rows(as_given.rows, ordered.rows)
    assert few < many - len(begun[0]), "a token is a character here"
