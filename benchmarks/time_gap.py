"""How far whole plans are from the best ones in time: the second line of `plait bench gap`.

`order_gap` compares what the order alone decides, in tokens. Here small random batches are planned
as a run plans them, orders tried in virtual time included (`dag/trying.py`), and rehearsed on a
machine of fixed costs: equal calls are made once, tools take their time, steps batch what is ready,
and the engine's own scheduler and prefix tree work with KV memory for little more than one row's
prompts. The best plan is found by rehearsing every order in which rows can start; what is compared
is seconds until the last answer. The planner knows how long answers and tools are, as after an
earlier run; or thinks that they are shorter; or knows nothing of them, as in a first run.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import plait
from plait import llm, system, tool, user, workflow
from plait.dag.estimates import Estimates, operator_key
from plait.dag.imagined import Imagination
from plait.dag.logical import Plan, positions
from plait.dag.names import named_nodes
from plait.dag.plan import make_plan
from plait.dag.rehearsal import Stage, rehearse
from plait.dag.rehearsals import ordered
from plait.dag.trying import tried
from plait.engine.llm.costs import Costs
from plait.engine.rehearsed_model import PAGE_SIZE, RehearsedModel

from .order_gap import drawing, footprints

INSTANCES = 500
ROWS = (4, 4, 5)
MEMORY = (1.05, 1.25, 1.5, 2.0, 3.0)
"""Sizes of KV memory, in prompts of the largest row."""
SECONDS = (0.0, 0.02, 0.1)
"""What a tool takes."""
WRONG = 4 / 3
"""By how much answers and tools are longer than what is known."""


MACHINE = Costs(
    step=2e-3, token=3e-4, token_context=1e-7, decode_row=4e-4, kv_token=5e-7, kv_bytes=4096,
    load=0.0,
)  # fmt: skip
"""A small model on two cores."""


@llm(max_tokens=6)
def read(document: str, person: str) -> str:
    return plait.prompt(system("You read."), user(f"{document} {person}"))


@tool(effect="pure")
def look_up(words: str) -> str:
    return words


@llm(max_tokens=6)
def reply(person: str, question: str, found: str) -> str:
    return plait.prompt(system("You reply."), user(f"{person}: {question} {found}"))


@workflow
def asked(document: str, person: str, question: str) -> str:
    """Two calls that pull rows into different orders, and a tool between them."""
    return reply(person, question, look_up(read(document, person)))


@dataclass(frozen=True, slots=True)
class TimeGap:
    """Seconds over those of the best order of rows, as shares of the latter."""

    instances: int
    mean: float
    worst: float
    wrong_mean: float
    """Where answers and tools are a third longer than the planner knows."""
    wrong_worst: float
    first_mean: float
    """In a first run: nothing is known of how long they are, and no order is tried."""
    first_worst: float
    as_given: float
    """The mean if rows start in the order in which they come."""
    milliseconds: float
    """To plan a batch, on average."""

    def __str__(self) -> str:
        return (
            f"{self.instances} random batches in virtual time, plan against the best of all "
            f"orders: {self.mean:.2%} more seconds in the mean, {self.worst:.2%} at worst "
            f"({self.wrong_mean:.2%} and {self.wrong_worst:.2%} where all takes a third longer "
            f"than is known, {self.first_mean:.2%} and {self.first_worst:.2%} where nothing is "
            f"known, {self.as_given:.2%} as given); {self.milliseconds:.1f} ms to plan a batch"
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """A batch, KV memory in pages for it, and how long its calls are."""

    rows: list[dict[str, Any]]
    pages: int
    estimates: Estimates

    def stage(self, _: Plan) -> Stage:
        return Stage({"default": RehearsedModel(MACHINE, self.pages)})

    def by_tokens(self) -> Plan:
        """Its plan before orders are tried."""
        return make_plan(asked.workflow, self.rows, memory=float(self.pages * PAGE_SIZE))

    def plan(self, longer: float = 1.0) -> Plan:
        """Its plan, if all takes so much longer than the planner knows."""
        known = {key: value / longer for key, value in self.estimates.given.items()}
        return tried(self.by_tokens(), self.rows, Estimates(given=known), self.stage, Imagination())

    def seconds(self, plan: Plan, order: Sequence[int], texts: Imagination) -> float:
        """Until the last answer, if rows start in this order."""
        taken = ordered(plan, order)
        found = rehearse(taken, [self.rows], self.estimates, self.stage(taken), texts)
        assert not found.used["default"].failed
        return found.seconds


def instance(seed: int) -> Instance:
    rng = random.Random(seed)
    row = drawing(rng, (20, 100, 300, 800))
    rows = [row() for _ in range(rng.choice(ROWS))]
    nodes = dict(named_nodes(asked.workflow))
    given = {"read": rng.randint(1, 6), "reply": rng.randint(1, 6), "look_up": rng.choice(SECONDS)}
    estimates = Estimates(given={operator_key(nodes[n]): float(v) for n, v in given.items()})
    largest = footprints(make_plan(asked.workflow, rows)).memory
    # Besides a row's prompts, pages that end half full and the answers.
    pages = math.ceil(largest * rng.choice(MEMORY) / PAGE_SIZE) + 4
    return Instance(rows, pages, estimates)


def measured(instances: int = INSTANCES) -> TimeGap:
    """The gap over the first so many seeds."""
    gaps: dict[str, list[float]] = {name: [] for name in ("known", "wrong", "first", "given")}
    spent = 0.0
    for seed in range(instances):
        one = instance(seed)
        first, texts = one.by_tokens(), Imagination()
        as_given = tuple(range(len(one.rows)))
        seconds = {order: one.seconds(first, order, texts) for order in permutations(as_given)}
        best = min(seconds.values())
        start = time.perf_counter()
        known = one.plan()
        spent += time.perf_counter() - start
        plans = {"known": known, "wrong": one.plan(WRONG), "first": first}
        taken = {name: tuple(positions(plan.parts[0])) for name, plan in plans.items()}
        for name, order in (taken | {"given": as_given}).items():
            gaps[name].append(seconds[order] / best - 1)
    mean = {name: statistics.fmean(found) for name, found in gaps.items()}
    return TimeGap(
        instances, mean["known"], max(gaps["known"]), mean["wrong"], max(gaps["wrong"]),
        mean["first"], max(gaps["first"]), mean["given"], spent / instances * 1e3,
    )  # fmt: skip
