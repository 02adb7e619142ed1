"""How far whole plans are from the best ones in time: the second line of `plait bench gap`.

`order_gap` compares what the order alone decides, in tokens. Here small random batches are planned
and rehearsed in virtual time, on a machine of fixed costs: equal calls are made once, tools take
their time, steps batch what is ready, and the engine's own scheduler and prefix tree work with KV
memory for little more than one row's prompts. The best plan is found by rehearsing every order in
which rows can start; what is compared is seconds until the last answer.
"""

from __future__ import annotations

import math
import random
import statistics
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import plait
from plait import llm, system, tool, user, workflow
from plait.dag.estimates import Estimates, operator_key
from plait.dag.imagined import Imagination
from plait.dag.logical import Plan
from plait.dag.names import named_nodes
from plait.dag.plan import make_plan
from plait.dag.rehearsal import Stage, rehearse
from plait.engine.llm.costs import Costs
from plait.engine.rehearsed import PAGE_SIZE, Rehearsing

from .order_gap import drawing, footprints

INSTANCES = 500
ROWS = (4, 4, 5)
MEMORY = (1.05, 1.25, 1.5, 2.0, 3.0)
"""Sizes of KV memory, in prompts of the largest row."""
SECONDS = (0.0, 0.02, 0.1)
"""What a tool takes."""


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
    as_given: float
    """The mean if rows start in the order in which they come."""

    def __str__(self) -> str:
        return (
            f"{self.instances} random batches in virtual time, plan against the best of all "
            f"orders: {self.mean:.2%} more seconds in the mean, {self.worst:.2%} at worst "
            f"({self.as_given:.2%} as given)"
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """A batch, KV memory in pages for it, and what is known of its calls."""

    rows: list[dict[str, Any]]
    pages: int
    estimates: Estimates

    @property
    def plan(self) -> Plan:
        return make_plan(asked.workflow, self.rows, memory=float(self.pages * PAGE_SIZE))

    def seconds(self, plan: Plan, order: Sequence[int], texts: Imagination) -> float:
        """Until the last answer, if rows start in this order."""
        (part,) = plan.parts
        ordered = replace(plan, parts=(replace(part, order=array("i", order)),))
        stage = Stage({"default": Rehearsing(MACHINE, self.pages)})
        found = rehearse(ordered, [self.rows], self.estimates, stage, texts)
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
    found, given = [], []
    for seed in range(instances):
        one = instance(seed)
        plan, texts = one.plan, Imagination()
        as_given = tuple(range(len(one.rows)))
        seconds = {o: one.seconds(plan, o, texts) for o in permutations(as_given)}
        best = min(seconds.values())
        chosen = plan.parts[0].order
        found.append(seconds[as_given if chosen is None else tuple(chosen)] / best - 1)
        given.append(seconds[as_given] / best - 1)
    return TimeGap(instances, statistics.fmean(found), max(found), statistics.fmean(given))
