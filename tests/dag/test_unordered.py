"""Parts in any order: exact permutations, the best one chosen, and as written without a plan."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait
from plait import Engine, llm, system, user, workflow
from plait.dag.errors import WorkflowError
from plait.dag.nodes import LLMCall
from plait.dag.plan import make_plan
from plait.dag.rules.reorder_parts import EXACT, best_order
from plait.dag.template import Part, Slot, Template
from plait.dag.unordered import joined, permuted
from plait.dag.yaml_file import load_yaml
from plait.testing import FakeBackend, prompt_text


@llm(max_tokens=8)
def advise(reader: str, document: str, note: str) -> str:
    parts = plait.unordered(f"Reader: {reader}", f"Document: {document}", note, "Always this.")
    return plait.prompt(system("You advise."), user(f"Read.\n\n{parts}\n\nAdvice:"))


@workflow
def advice(reader: str, document: str, note: str) -> str:
    return advise(reader, document, note)


names = st.text("ab\x0c é", max_size=3)
rows_of = st.lists(
    st.fixed_dictionaries({"reader": names, "document": names, "note": names}), min_size=1,
    max_size=6,
)  # fmt: skip


def template(workflow: Any) -> Template:
    found = next(n.prompt for n in workflow.nodes.values() if isinstance(n, LLMCall))
    assert isinstance(found, Template)
    return found


def prompts(rows: list[dict[str, Any]], plan: bool) -> list[str]:
    backend = FakeBackend(prompt_text)
    with Engine(backend=backend) as engine:
        return [row.output for row in engine.run(advice, rows, plan=plan)]


@given(rows_of)
def test_every_row_has_all_its_parts_once_and_without_a_plan_as_written(
    rows: list[dict[str, Any]],
) -> None:
    original = template(advice.workflow)
    new = template(make_plan(advice.workflow, rows).parts[0].workflow)
    for row in rows:
        written, planned = original.render(row), new.render(row)
        parts = [f"Reader: {row['reader']}", f"Document: {row['document']}", row["note"]]
        parts.append("Always this.")
        ways = {"Read.\n\n" + "\n\n".join(way) + "\n\nAdvice:" for way in permutations(parts)}
        assert written[1].content == "Read.\n\n" + "\n\n".join(parts) + "\n\nAdvice:"  # type: ignore[union-attr]
        assert planned[1].content in ways  # type: ignore[union-attr]
        assert written[0] == planned[0]


def test_a_run_follows_the_plan_and_without_one_the_text() -> None:
    rows = [{"reader": r, "document": "a long document " * 9, "note": "n"} for r in "abc"]
    assert "Read.\n\nReader: a\n\nDocument: a" in prompts(rows, plan=False)[0]
    planned = prompts(rows, plan=True)
    assert all(
        text.endswith(f"Reader: {r}\n\nAdvice:") for text, r in zip(planned, "abc", strict=True)
    )


def test_more_is_shared_and_the_rule_can_be_left_out() -> None:
    rows = [{"reader": f"r{i}", "document": "long " * 40, "note": "n"} for i in range(5)]
    better = make_plan(advice.workflow, rows).prefixes
    written = make_plan(advice.workflow, rows, disable=["reorder_parts"]).prefixes
    assert better is not None and written is not None
    assert better.asked == pytest.approx(written.asked, abs=5)
    assert better.computed < written.computed / 3


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_no_order_of_parts_computes_fewer_tokens(seed: int, count: int) -> None:
    rng = random.Random(seed)
    columns = [[rng.randrange(rng.randint(1, 4)) for _ in range(7)] for _ in range(count)]
    tokens = [float(rng.randint(1, 30)) for _ in range(count)]

    def distinct(chosen: frozenset[int]) -> int:
        return len({tuple(columns[c][row] for c in sorted(chosen)) for row in range(7)})

    def price(order: tuple[int, ...]) -> float:
        ends = ((part, frozenset(order[: place + 1])) for place, part in enumerate(order))
        return sum(tokens[part] * distinct(chosen) for part, chosen in ends)

    found = best_order(tokens, distinct)
    ways = list(permutations(range(count)))
    assert price(tuple(found)) == min(map(price, ways))
    assert found == min(w for w in map(list, ways) if price(tuple(w)) == price(tuple(found)))


def test_many_parts_are_ordered_greedily_what_is_determined_behind_what_determines_it() -> None:
    count = EXACT + 2
    columns = [[row % (part + 2) for row in range(60)] for part in range(count - 1)]
    columns.append(columns[0])  # says what the first one says

    def distinct(chosen: frozenset[int]) -> int:
        return len({tuple(columns[c][row] for c in sorted(chosen)) for row in range(60)})

    found = best_order([5.0] * count, distinct)
    assert sorted(found) == list(range(count))
    assert found[:2] == [0, count - 1]


@given(st.permutations(range(4)), st.integers(0, 3))
def test_parts_move_and_what_is_between_them_stays(order: list[int], slots: int) -> None:
    parts: list[list[Part]] = [
        [f"p{i}", Slot(f"s{i}")] if i < slots else [f"p{i}"] for i in range(4)
    ]
    pieces, spans = joined(parts, "|")
    behind = tuple((first + 1, end + 1) for first, end in spans)
    moved = permuted(["<", *pieces, ">"], behind, order)
    shown = "".join(map(str, moved))
    assert shown == "<" + "|".join("".join(map(str, parts[i])) for i in order) + ">"


def test_in_yaml_parts_stand_before_the_text() -> None:
    source = """
workflow: pair
inputs: [one, two]
nodes:
  answer: {llm: "Compare.", unordered: ["One: {{one}}", "Two: {{two}}"], system: "S"}
output: "{{answer}}"
"""
    found = load_yaml(source, "pair.yaml", lambda _: {})
    text = template(found).render({"one": "a", "two": "b"})[1]
    assert text.content == "One: a\n\nTwo: b\n\nCompare."  # type: ignore[union-attr]
    rows = [{"one": str(i), "two": "always the same"} for i in range(4)]
    new = template(make_plan(found, rows).parts[0].workflow).render({"one": "a", "two": "b"})[1]
    assert new.content == "Two: b\n\nOne: a\n\nCompare."  # type: ignore[union-attr]
    with pytest.raises(WorkflowError, match="'unordered' is a list of texts"):
        load_yaml(source.replace('["One: {{one}}", "Two: {{two}}"]', "yes"), "p.yaml", lambda _: {})


def test_parts_are_texts_and_hold_no_further_parts() -> None:
    @llm(max_tokens=4)
    def nested(a: str, b: str) -> str:
        return plait.unordered(plait.unordered(f"{a}", "x"), f"{b}")

    with pytest.raises(WorkflowError, match="cannot hold further unordered parts"):
        _ = nested.prompt
    with pytest.raises(TypeError, match="an unordered part is text"):
        plait.unordered("a", 3)  # type: ignore[arg-type]
    assert plait.unordered("a", "b", between=" ") == "a b"
