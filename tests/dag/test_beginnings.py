"""What known texts begin with in common: against brute force, and what plans make of it."""

from __future__ import annotations

from array import array
from os.path import commonprefix

from hypothesis import given
from hypothesis import strategies as st

from plait import llm, workflow
from plait.dag.beginnings import DEEPEST, LEAST, Begun, beginnings
from plait.dag.lengths import Lengths
from plait.dag.numbering import Numbering
from plait.dag.plan import make_plan
from plait.dag.prefixes import Prefixes
from plait.dag.template import Slot

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


def test_a_beginning_adds_what_lies_behind_the_one_before_in_its_own_column() -> None:
    """The same text may begin with two levels in one column and with one in another."""
    a, b, c = "a" * 100, "b" * 100, "c" * 100
    two, one = [f"{a}{b}1", f"{a}{b}2", f"{a}{c}"], [f"{a}{b}1", f"{a}{b}2"]
    for columns in ((two, one), (one, two)):
        numbering = Numbering()
        begun = Begun(numbering, Lengths(numbering, lambda text: float(len(text))))
        slot = Slot("text")
        for texts in columns:
            values = array("i", [numbering.value(text) for text in texts])
            chain = [level.tokens[0] for level in begun.levels(slot, values)]
            assert chain == ([100.0, 100.0] if texts is two else [200.0])
