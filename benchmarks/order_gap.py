"""How far the planner's order of rows is from the best one: `plait bench gap`.

Small random batches, planned as any other batch is, with KV memory for little more than one row.
The best order is found by trying all of them. What is compared is what the planner counts: tokens
computed when rows run one after the other and memory keeps what is needed soonest.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import plait
from plait import llm, system, user, workflow
from plait.dag.logical import Plan
from plait.dag.ordering import Footprints
from plait.dag.plan import make_plan

INSTANCES = 500
ROWS = (5, 5, 5, 6)
MEMORY = (None, None, 1.05, 1.1, 1.25)
"""Sizes of KV memory, in prompts of one row; None: not known to the planner, one row's is taken."""


@llm(max_tokens=4)
def by_document(document: str, person: str, note: str) -> str:
    return f"{document} {person} {note}"


@llm(max_tokens=4)
def by_person(person: str, question: str, note: str) -> str:
    return plait.prompt(system("You know people."), user(f"{person}: {question} {note}"))


@llm(max_tokens=4)
def by_question(question: str, document: str) -> str:
    return plait.prompt(system("You answer."), user(f"{question}: {document}"))


@workflow
def torn(document: str, person: str, question: str, note: str) -> list[str]:
    """Three calls whose prompts pull rows into different orders."""
    return [
        by_document(document, person, note), by_person(person, question, note),
        by_question(question, document),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gap:
    """Tokens over those of the best order, as shares of the latter."""

    instances: int
    mean: float
    worst: float
    as_given: float
    """The mean if rows are left in the order in which they come."""
    milliseconds: float
    """To plan a batch, on average."""

    def __str__(self) -> str:
        return (
            f"{self.instances} random batches, order of rows against the best of all orders: "
            f"{self.mean:.2%} more tokens in the mean, {self.worst:.2%} at worst "
            f"({self.as_given:.2%} as given); {self.milliseconds:.1f} ms to plan a batch"
        )


def drawing(rng: random.Random, sizes: Sequence[int]) -> Callable[[], dict[str, Any]]:
    """Draws rows of a document, a person and a question, of which there are two or three each, so
    many words long."""
    names = ("document", "person", "question")
    kinds = [rng.randint(2, 3) for _ in names]
    words = [rng.choice(sizes) for _ in names]

    def row() -> dict[str, Any]:
        each = zip(names, kinds, words, strict=True)
        return {name: f"{name[0]}{rng.randrange(kind)} " * size for name, kind, size in each}

    return row


def instance(seed: int) -> tuple[list[dict[str, Any]], float | None]:
    """A batch, and KV memory in tokens for it."""
    rng = random.Random(seed)
    row = drawing(rng, (4, 20, 100, 300))
    rows = [row() | {"note": f"n{rng.randrange(ROWS[-1])}"} for _ in range(rng.choice(ROWS))]
    share = rng.choice(MEMORY)
    return rows, share and share * footprints(make_plan(torn.workflow, rows)).memory


def footprints(plan: Plan) -> Footprints:
    """What the rows of a plan with one workflow need."""
    assert plan.prefixes is not None
    return Footprints(plan.prefixes.groups, plan.rows, plan.memory, plan.parts[0].classes)


def measured(instances: int = INSTANCES) -> Gap:
    """The gap over the first so many seeds."""
    found, given, seconds = [], [], 0.0
    for seed in range(instances):
        rows, memory = instance(seed)
        start = time.perf_counter()
        plan = make_plan(torn.workflow, rows, memory=memory)
        seconds += time.perf_counter() - start
        price = footprints(plan).computed
        as_given = range(len(rows))
        best = min(map(price, permutations(as_given)))
        found.append(price(plan.parts[0].order or as_given) / best - 1)
        given.append(price(as_given) / best - 1)
    return Gap(
        instances, statistics.fmean(found), max(found), statistics.fmean(given),
        seconds / instances * 1e3,
    )  # fmt: skip
