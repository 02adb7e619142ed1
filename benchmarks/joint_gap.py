"""How far order and placement together are from the best ones: a line of `plait bench gap`.

`time_gap` tries orders where one worker has all models, `placement_gap` tries placements by a
formula. Here a batch (`joint_batches`) is planned as a run plans it: order by tokens, placement by
the formula, then orders and placements in virtual time; and it is rehearsed on its workers: loads,
turns, calls that are divided and taken over, tools, KV memory of every model. The oracle rehearses
all orders of rows on all placements, which are all sets of models on all workers stage after stage;
those that tell the workers the same are one.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import astuple, dataclass, replace
from itertools import product

from plait.dag.imagined import Imagination
from plait.dag.keys import value_key
from plait.dag.logical import Plan, positions
from plait.dag.placement import Demand, Placement, Stage
from plait.dag.placements import told
from plait.dag.rehearsals import ordered, unlike
from plait.engine.trials import SHARE

from .joint_batches import Instance, instance

INSTANCES = 500


@dataclass(frozen=True, slots=True)
class Gap:
    """Seconds over those of the best order on the best placement, as shares of the latter."""

    instances: int
    mean: float
    worst: float
    several: int
    """Instances with two workers."""
    several_mean: float
    brief_mean: float
    """With no more time for rehearsals than a run of these few seconds gives them."""
    brief_worst: float
    formula_mean: float
    """Without rehearsals: order by tokens, placement by the formula."""
    formula_worst: float
    order_mean: float
    """With the best of all orders on the placement by the formula."""
    placement_mean: float
    """With the best of all placements in the order by tokens."""
    milliseconds: float
    """To plan a batch, on average."""

    def __str__(self) -> str:
        return (
            f"{self.instances} random batches of two models in virtual time, order and placement "
            f"against the best of all orders on all placements: {self.mean:.2%} more seconds in "
            f"the mean, {self.worst:.2%} at worst ({self.several_mean:.2%} in the mean of the "
            f"{self.several} on two workers; {self.brief_mean:.2%} and {self.brief_worst:.2%} "
            f"where rehearsals may take {SHARE:.0%} of the run; {self.formula_mean:.2%} and "
            f"{self.formula_worst:.2%} without any, {self.order_mean:.2%} with the best order "
            f"alone and {self.placement_mean:.2%} with the best placement alone); "
            f"{self.milliseconds:.1f} ms to plan a batch"
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """The same of one batch: seconds over the least, as shares of that."""

    taken: float
    brief: float
    formula: float
    order: float
    placement: float
    planning: float
    """Seconds to plan it."""


def all_placements(demand: Demand) -> list[Placement]:
    """All sets of models on all workers, stage after stage until nothing is left: of those that
    tell the workers the same, one."""
    models = sorted(demand.sizes)
    sets = [frozenset(m for m, on in zip(models, bits, strict=True) if on)
            for bits in product((0, 1), repeat=len(models))]  # fmt: skip
    configs = list(product(filter(demand.fits, sets), repeat=demand.workers))
    nothing = (0.0,) * demand.workers
    begun = [(demand.steps.begun, tuple[Stage, ...]())]
    seen, found = set(), list[Placement]()
    for done, stages in begun:  # grows while it is gone through
        if len(done) == len(demand.steps.needs):
            found.append(Placement(stages, exact=False))
            continue
        for config in configs:
            then = demand.steps.finish(done, frozenset().union(*config))
            way = (*stages, Stage(config, nothing, {}, 0.0, then - done))
            if (
                then != done
                and (what := (then, told(Placement(way, exact=False), demand.steps))) not in seen
            ):
                seen.add(what)
                begun.append((then, way))
    return found


def lost(one: Instance) -> Lost:
    """What the planner loses of one batch."""
    texts, known = Imagination(), dict[object, float]()
    alike = [value_key(row) for row in one.rows]

    def seconds(plan: Plan) -> float:
        assert plan.placement is not None
        order = tuple(alike[place] for place in positions(plan.parts[0]))
        key = told(plan.placement, one.demand.steps), order
        if key not in known:
            known[key] = one.seconds(plan, texts)
        return known[key]

    start = time.perf_counter()
    taken = one.plan()
    planning = time.perf_counter() - start
    orders, formula = list(unlike(alike)), one.by_formula
    places = [replace(formula, placement=place) for place in all_placements(one.demand)]
    best = min(seconds(ordered(plan, order)) for plan in places for order in orders)
    return Lost(
        seconds(taken) / best - 1, seconds(one.plan(SHARE)) / best - 1, seconds(formula) / best - 1,
        min(seconds(ordered(formula, order)) for order in orders) / best - 1,
        min(map(seconds, places)) / best - 1, planning,
    )  # fmt: skip


def measured(instances: int = INSTANCES) -> Gap:
    """The gap over the first so many seeds."""
    batches = [instance(seed) for seed in range(instances)]
    found = [lost(one) for one in batches]
    several = [gap.taken for one, gap in zip(batches, found, strict=True) if one.workers > 1]
    taken, brief, formula, order, placement, planning = zip(*map(astuple, found), strict=True)
    mean = statistics.fmean
    return Gap(
        instances, mean(taken), max(taken), len(several), mean(several or [0.0]), mean(brief),
        max(brief), mean(formula), max(formula), mean(order), mean(placement), mean(planning) * 1e3,
    )  # fmt: skip
