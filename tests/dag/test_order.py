"""The order of rows against the best there is, found by trying all."""

from __future__ import annotations

import random
import statistics
from itertools import permutations
from typing import Any

import plait
from plait import llm, workflow
from plait.dag.plan import make_plan
from plait.dag.route import improve, length
from plait.dag.rules.order_rows import new_tokens

INSTANCES = 500


@llm(max_tokens=4)
def by_document(document: str, person: str, question: str) -> str:
    return f"{document} {person} {question}"


@llm(max_tokens=4)
def by_person(person: str, question: str) -> str:
    return plait.prompt(plait.system("You know people."), plait.user(f"{person}: {question}"))


@workflow
def both(document: str, person: str, question: str) -> list[str]:
    return [by_document(document, person, question), by_person(person, question)]


def instance(seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    sizes = [rng.randint(1, 40) for _ in range(3)]
    kinds = [(d, p, q) for d in range(3) for p in range(3) for q in range(4)]
    return [
        {
            "document": f"d{document} " * sizes[0],
            "person": f"p{person} " * sizes[1],
            "question": f"q{question} " * sizes[2],
        }
        for document, person, question in rng.sample(kinds, 6)
    ]


def gap(seed: int) -> float:
    """How much more than the best order the plan's order computes anew."""
    plan = make_plan(both.workflow, instance(seed))
    assert plan.prefixes is not None
    groups = plan.prefixes.groups
    order = list(plan.parts[0].order or range(6))
    first = sum(sum(group.tokens) for group in groups)  # the first row computes everything
    best = first + min(new_tokens(groups, way) for way in permutations(range(6)))
    return (first + new_tokens(groups, order)) / best - 1


def test_moves_never_make_an_order_longer() -> None:
    rng = random.Random(1)
    for size in range(1, 9):
        points = [rng.random() for _ in range(size)]
        apart = [[abs(a - b) for b in points] for a in points]
        order = list(range(size))
        better = improve(order, apart)
        assert sorted(better) == order and length(better, apart) <= length(order, apart)
        # On a line the best way goes from one end to the other.
        assert abs(length(better, apart) - (max(points) - min(points))) < 1e-9


def test_the_order_is_close_to_the_best_one() -> None:
    gaps = [gap(seed) for seed in range(INSTANCES)]
    mean, worst = statistics.fmean(gaps), max(gaps)
    print(f"{INSTANCES} instances: mean gap {mean:.2%}, worst {worst:.2%}")
    assert min(gaps) > -1e-9
    assert mean < 0.005 and worst < 0.15
