"""What answers are expected to take: from this run, from earlier ones, else max_tokens."""

from __future__ import annotations

from plait import Engine, llm
from plait.dag.estimates import Estimates, operator_key
from plait.dag.expected import FEW
from plait.dag.nodes import LLMCall
from plait.dag.observed import Observed
from plait.dag.workflow import as_workflow
from plait.engine.backends.backend import Call
from plait.engine.lengths import Lengths
from plait.engine.run import NodeStats, Stats
from plait.testing import FakeBackend


@llm(max_tokens=100)
def ask(topic: str) -> str:
    return f"about {topic}"


def node() -> LLMCall:
    (found,) = (n for n in as_workflow(ask).nodes.values() if isinstance(n, LLMCall))
    return found


def of(*lengths: int) -> Observed:
    seen = Observed()
    for length in lengths:
        seen.answers.add(length)
    return seen


def test_nothing_is_known_at_first() -> None:
    assert Lengths(Stats(), Estimates()).expected("ask", node()) is None


def test_earlier_runs_count_until_this_one_says_more() -> None:
    stats = Stats(nodes={"ask": NodeStats("LLMCall")})
    known = Estimates({operator_key(node()): of(*[10] * FEW)})
    lengths = Lengths(stats, known)
    assert lengths.expected("ask", node()) == 10
    for _ in range(FEW - 1):
        stats.nodes["ask"].seen.answers.add(40)
    assert lengths.expected("ask", node()) == 10
    stats.nodes["ask"].seen.answers.add(40)
    assert lengths.expected("ask", node()) == 40


def test_a_few_earlier_answers_are_not_enough() -> None:
    known = Estimates({operator_key(node()): of(*[10] * (FEW - 1))})
    assert Lengths(Stats(), known).expected("ask", node()) is None


def test_most_answers_are_no_longer_and_none_is_expected_beyond_its_limit() -> None:
    lengths = [10, 12, 9, 30, 11, 14, 8, 10, 13, 10]
    expected = Lengths(Stats(nodes={"ask": NodeStats("LLMCall", seen=of(*lengths))}), Estimates())
    found = expected.expected("ask", node())
    assert found is not None and sum(n <= found for n in lengths) >= 9
    wild = Lengths(Stats(nodes={"ask": NodeStats("LLMCall", seen=of(*[1, 99] * FEW))}), Estimates())
    assert wild.expected("ask", node()) == 100


def test_calls_of_a_run_tell_the_backend() -> None:
    told: list[int | None] = []

    def answer(call: Call) -> str:
        told.append(call.expected)
        return "one two three"

    with Engine(backend=FakeBackend(answer), max_rows=1) as engine:
        engine.run(ask, [{"topic": str(i)} for i in range(3 * FEW)])
    assert told[:FEW] == [None] * FEW and None not in told[FEW:]
    assert len(set(told[FEW:])) == 1
