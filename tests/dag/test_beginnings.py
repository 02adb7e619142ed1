"""What known texts begin with in common: against brute force, and what plans make of it."""

from __future__ import annotations

from array import array
from os.path import commonprefix
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from plait import llm, workflow
from plait.dag.beginnings import DEEPEST, LEAST, Begun, beginnings
from plait.dag.filled import Filled
from plait.dag.lengths import Lengths
from plait.dag.numbering import Numbering
from plait.dag.numbers import Column
from plait.dag.plan import make_plan
from plait.dag.prefixes import Prefixes, Vertex
from plait.dag.template import Slot
from plait.dag.workflow import WorkflowFunction

# Texts of long words, so that they agree in many places and for long.
TEXTS = st.lists(
    st.lists(st.sampled_from(["a" * 50, "b" * 70, "c" * 30]), max_size=8).map("".join), max_size=12
)


@given(TEXTS)
def test_every_beginning_is_shared_and_as_long_as_can_be(texts: list[str]) -> None:
    found = beginnings(set(texts))
    for text, cuts in found.items():
        before, ends = 0, [end for end, _ in cuts]
        assert 1 <= len(ends) <= DEEPEST
        for end in ends:
            assert end - before >= LEAST
            mates = [t for t in set(texts) if t.startswith(text[:end])]
            assert len(mates) > 1 and len(commonprefix(mates)) == end
            before = end


@given(TEXTS)
def test_none_is_missed(texts: list[str]) -> None:
    found, different = beginnings(set(texts)), set(texts)
    for text in different:
        most = max((len(commonprefix([text, t])) for t in different - {text}), default=0)
        assert (text in found) == (most >= LEAST)
        ends = [end for end, _ in found.get(text, ())]
        if ends and len(ends) < DEEPEST:  # what is left behind the last is not worth a vertex
            assert most - ends[-1] < LEAST


@llm(max_tokens=4)
def answer(history: str, question: str) -> str:
    return f"{history}\nQuestion: {question}"


@workflow
def asked(history: str, question: str) -> str:
    return answer(history, question)


FIRST, OTHER = "the first conversation " * 20, "quite another conversation " * 20
ROWS = [
    {"history": FIRST + "ends here", "question": "1"},
    {"history": OTHER + "ends there", "question": "2"},
    {"history": FIRST + "ends elsewhere", "question": "3"},
    {"history": OTHER + "never ends", "question": "4"},
    {"history": FIRST, "question": "5"},
    {"history": "short", "question": "6"},
]


def planned(rows: list[dict[str, str]]) -> tuple[Prefixes, list[int]]:
    plan = make_plan(asked.workflow, rows)
    assert plan.prefixes is not None
    return plan.prefixes, list(plan.parts[0].order or range(len(rows)))


def test_texts_that_begin_alike_are_computed_once_and_run_side_by_side() -> None:
    prefixes, order = planned(ROWS)
    known = sum(len(str(row["history"])) for row in ROWS) / 4
    assert prefixes.merged - prefixes.computed >= (2 * len(FIRST) + len(OTHER)) / 4
    assert prefixes.asked > known
    assert order == [0, 2, 4, 1, 3, 5]


def test_a_text_that_others_continue_counts_once() -> None:
    alone = planned([ROWS[4]])[0].computed
    both = planned([ROWS[4], ROWS[0]])[0].computed
    apart = planned([ROWS[0]])[0].computed
    assert both - apart < alone / 4  # its own question and what ends a prompt


def test_each_number_of_tokens_is_counted_once_however_prompts_are_cut() -> None:
    """With no questions to tell them apart: what is computed is the trie of the texts."""
    rows = [{"history": text, "question": ""} for text in (FIRST, FIRST + OTHER, FIRST + "x" * 80)]
    prefixes, _ = planned(rows)
    trie = (len(FIRST) + len(OTHER) + 80) / 4
    static = 3 * len("\nQuestion: ") / 4
    overhead = prefixes.computed - trie - static
    assert 0 <= overhead < 3 * 10, "what chat templates add"


def levels(*columns: list[str], together: bool) -> list[list[float]]:
    """Tokens of the first text's beginnings in every column, which fill one slot or one each."""
    numbering = Numbering()
    begun = Begun(numbering, Lengths(numbering, lambda text: float(len(text))))
    met: list[tuple[Vertex, Column]] = []
    for texts in columns:
        vertex = met[0][0] if together and met else Vertex("slot", "slot")
        values = array("i", [numbering.value(text) for text in texts])
        begun.meet(vertex, Filled(Slot("text"), None, values))
        met.append((vertex, values))
    found = (begun.levels(vertex, values, len(values)) for vertex, values in met)
    return [[level.tokens[0] for level in one] for one in found]


def test_a_beginning_adds_what_lies_behind_the_one_before_at_its_own_place() -> None:
    """The same text may begin with two levels at one slot and with one at another."""
    a, b, c = "a" * 100, "b" * 100, "c" * 100
    two, one = [f"{a}{b}1", f"{a}{b}2", f"{a}{c}"], [f"{a}{b}1", f"{a}{b}2"]
    assert levels(two, one, together=False) == [[100.0, 100.0], [200.0]]
    assert levels(one, two, together=False) == [[200.0], [100.0, 100.0]]
    assert levels(one, two, together=True) == [[100.0, 100.0], [100.0, 100.0]]


def computed(flow: WorkflowFunction[Any, Any], rows: list[dict[str, Any]]) -> float:
    prefixes = make_plan(flow.workflow, rows).prefixes
    assert prefixes is not None
    return prefixes.computed


def test_columns_that_fill_one_slot_share_what_they_begin_with() -> None:
    """A conversation and the same one a turn later, in two calls of one row."""

    @workflow
    def turns(before: str, after: str) -> list[str]:
        return [answer(before, "?"), answer(after, "?")]

    rows = [{"before": f"{n} {FIRST}", "after": f"{n} {FIRST}, and more"} for n in range(4)]
    apart = [{"before": f"{n} {FIRST}", "after": f"{n + 4} {FIRST}, and more"} for n in range(4)]
    saved = computed(turns, apart) - computed(turns, rows)
    assert 4 * (len(FIRST) / 4 - 1) <= saved <= 4 * (len(FIRST) / 4 + 4)


def test_a_text_written_in_the_workflow_shares_what_it_begins_with() -> None:
    @workflow
    def known(text: str) -> list[str]:
        return [answer(FIRST + "ends here", "?"), answer(text, "?")]

    saved = computed(known, [{"text": OTHER}]) - computed(known, [{"text": FIRST + "goes on"}])
    assert saved > len(FIRST) / 4 - (len(FIRST) - len(OTHER)) / 4 - 5


@llm(max_tokens=4)
def judge(record: dict[str, Any]) -> str:
    return f"Report: {record['pages'][0]} Is it good?"


@workflow
def judged(record: dict[str, Any]) -> str:
    return judge(record)


def test_fields_and_items_of_values_are_shared_as_texts_are() -> None:
    pages = [FIRST + "ends here", FIRST + "goes on", FIRST + "ends here", OTHER]
    rows = [{"record": {"id": n, "pages": [page]}} for n, page in enumerate(pages)]
    plan = make_plan(judged.workflow, rows)
    assert plan.prefixes is not None
    (group,) = plan.prefixes.groups
    begun, whole = group.columns
    assert len(set(begun[:3])) == 1 and begun[3] != begun[0]
    assert whole[0] == whole[2] and len(set(whole)) == 3
    assert plan.prefixes.merged - plan.prefixes.computed >= 2 * len(FIRST) / 4


class Record(BaseModel):
    text: str


@llm(max_tokens=4)
def read(record: Record) -> str:
    return f"Report: {record.text} Is it good?"


@workflow
def reading(record: Record) -> str:
    return read(record)


def test_fields_of_models_are_not_looked_into() -> None:
    """Their validators may make something else of them."""
    rows = [{"record": {"text": FIRST, "id": n}} for n in range(2)]
    plan = make_plan(reading.workflow, rows)
    assert plan.prefixes is not None
    (group,) = plan.prefixes.groups
    assert [len(set(column)) for column in group.columns] == [2]
