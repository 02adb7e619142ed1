"""Small random batches of two models for one worker or two: what `joint_gap` plans.

Three or four rows, two or three calls a row with a tool between them, workers that hold one model
or both, and KV memory for little more than one row's prompts up to ample.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import plait
from plait import llm, system, tool, user, workflow
from plait.dag.estimates import Estimates, operator_key
from plait.dag.imagined import Imagination
from plait.dag.logical import Plan
from plait.dag.names import named_nodes
from plait.dag.placement import Config, Demand, Placement
from plait.dag.placement_demand import Machine, demand_of
from plait.dag.placement_search import place
from plait.dag.placements import others
from plait.dag.plan import make_plan
from plait.dag.profile import Profile
from plait.dag.rehearsal import Stage, rehearse
from plait.dag.rehearsed_device import Device
from plait.dag.trying import tried
from plait.engine.llm.costs import Costs
from plait.engine.rehearsed_dispatch import RehearsedDispatch
from plait.engine.rehearsed_model import PAGE_SIZE, RehearsedModel

from .order_gap import drawing, footprints
from .time_gap import MACHINE, SECONDS

MEMORY = (1.05, 1.5, 3.0, 100.0)
"""Sizes of each model's KV memory, in prompts of the largest row."""
LOADS = (0.05, 0.3, 1.0)
"""Seconds that loading the small model takes."""
LARGER = (1.0, 2.0, 4.0)
"""By how much the big model is slower, and takes longer to load."""


@llm(model="small", max_tokens=8)
def read(document: str, person: str) -> str:
    return plait.prompt(system("You read."), user(f"{document} {person}"))


@tool(effect="pure")
def look_up(words: str) -> str:
    return words


@llm(model="big", max_tokens=8)
def reply(person: str, question: str, found: str) -> str:
    return plait.prompt(system("You reply."), user(f"{person}: {question} {found}"))


@llm(model="small", max_tokens=8)
def check(question: str, answer: str) -> str:
    return plait.prompt(system("You check."), user(f"{question} {answer}"))


@workflow
def there(document: str, person: str, question: str) -> str:
    """A call, a tool and a call of the other model."""
    return reply(person, question, look_up(read(document, person)))


@workflow
def and_back(document: str, person: str, question: str) -> str:
    """The same, and the first model looks at what has come of it."""
    return check(question, reply(person, question, look_up(read(document, person))))


@workflow
def apart(document: str, person: str, question: str) -> list[str]:
    """Both models are asked at once, one of them for two calls."""
    return [reply(person, question, ""), check(question, look_up(read(document, person)))]


WORKFLOWS = ((there, (3, 4)), (and_back, (3,)), (apart, (3,)))
"""With how many rows."""


@dataclass(frozen=True)
class Instance:
    """A batch, and the workers that it is for."""

    workflow: Any
    rows: list[dict[str, Any]]
    estimates: Estimates
    costs: Mapping[str, Costs]
    """By model."""
    pages: int
    """Of each model's KV memory."""
    workers: int
    held: int
    """Models that a worker can hold."""

    @property
    def opened(self) -> Config:
        """What workers hold before anything is placed: the first one has the first model."""
        first = next(iter(self.workflow.workflow.models()))
        return frozenset({first}), *[frozenset[str]()] * (self.workers - 1)

    @cached_property
    def by_tokens(self) -> Plan:
        """Its plan before models are placed."""
        return make_plan(self.workflow.workflow, self.rows, memory=float(self.pages * PAGE_SIZE))

    @cached_property
    def demand(self) -> Demand:
        names = {model: model for model in self.costs}
        machine = Machine(self.workers, self.held, dict.fromkeys(names, 1), names)
        demand = demand_of(self.by_tokens, Profile(self.costs, estimates=self.estimates), machine)
        assert demand is not None
        return demand

    @cached_property
    def by_formula(self) -> Plan:
        """Its plan before anything is rehearsed."""
        return replace(self.by_tokens, placement=place(self.demand, self.opened))

    @cached_property
    def others(self) -> tuple[Placement, ...]:
        """Placements that are tried beside that of the formula."""
        assert self.by_formula.placement is not None
        return others(self.by_formula.placement, self.demand, self.opened)

    def plan(self, share: float = math.inf) -> Plan:
        """Its plan as a run makes it, with so much of the run's seconds for rehearsals."""
        plan, texts = self.by_formula, Imagination()
        assert plan.placement is not None
        seconds = plan.placement.seconds
        return tried(
            plan, self.rows, self.estimates, self.scene, texts, self.others, seconds, share
        )

    def seconds(self, plan: Plan, texts: Imagination) -> float:
        """Until the last answer."""
        found = rehearse(plan, [self.rows], self.estimates, self.scene(plan), texts)
        assert not any(used.failed for used in found.used.values())
        return found.seconds

    def scene(self, plan: Plan) -> Stage:
        assert plan.placement is not None
        names = {model: model for model in self.costs}
        loads = {model: costs.load for model, costs in self.costs.items()}
        start = plan.placement.stages[0].models
        devices = [
            Device(
                {model: RehearsedModel(costs, self.pages) for model, costs in self.costs.items()},
                names, self.opened[n], dict.fromkeys(names, 1), self.held, loads, start[n], n,
            )
            for n in range(self.workers)
        ]  # fmt: skip
        tokens = dict.fromkeys(names, self.pages * PAGE_SIZE)
        dispatch = RehearsedDispatch(self.workers, plan, names, self.costs, tokens)
        return Stage(devices=devices, dispatch=dispatch)


def instance(seed: int) -> Instance:
    rng = random.Random(seed)
    target, counts = rng.choice(WORKFLOWS)
    row = drawing(rng, (20, 100, 300, 800))
    rows = [row() for _ in range(rng.choice(counts))]
    nodes = dict(named_nodes(target.workflow))
    lengths = {name: float(rng.randint(1, 8)) for name in ("read", "reply", "check")}
    lengths["look_up"] = rng.choice(SECONDS)
    given = {operator_key(nodes[n]): value for n, value in lengths.items() if n in nodes}
    small, larger = replace(MACHINE, load=rng.choice(LOADS)), rng.choice(LARGER)
    slower = ("step", "token", "token_context", "decode_row", "kv_token", "load")
    big = replace(small, **{name: getattr(small, name) * larger for name in slower})
    largest = footprints(make_plan(target.workflow, rows)).memory
    # Besides a row's prompts, pages that end half full and the answers.
    pages = math.ceil(largest * rng.choice(MEMORY) / PAGE_SIZE) + 4
    return Instance(
        target, rows, Estimates(given=given), {"small": small, "big": big}, pages,
        rng.choice((1, 2, 2)), rng.randint(1, 2),
    )  # fmt: skip
