"""The stages that a placement can go on with: what the workers may hold next, and what is finished
then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, combinations_with_replacement, permutations
from math import comb

from .phases import Done
from .placement import Config, Demand, Stage, chain_seconds, stage_seconds, subsets

LISTED = 1_000
"""Most ways to give models to workers that are tried one by one."""
MATCHED = 5
"""Most workers for which all ways to give them new models are tried."""


class Stages:
    """Those of one demand: whatever is done, and whatever is there."""

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.models = sorted({m for m in demand.steps.models.values() if m is not None})

    @cached_property
    def configs(self) -> list[Config] | None:
        """All ways to give the workers models, which worker is which left open; None: too many."""
        models, workers = self.models, self.demand.workers
        if len(models) > LISTED.bit_length():
            return None
        sets = [frozenset(some) for some in subsets(models) if self.demand.fits(frozenset(some))]
        if comb(len(sets) + workers, workers) > LISTED:
            return None
        return list(combinations_with_replacement([frozenset[str](), *sets], workers))

    def tried(
        self, done: Done, there: Config, configs: Iterable[Config]
    ) -> Iterator[tuple[Stage, Done]]:
        """The stages that finish something, and what is finished after them."""
        demand = self.demand
        wanted = set(demand.steps.wanted(done))
        for config in configs:
            held = frozenset(chain.from_iterable(config))
            if held.isdisjoint(wanted):
                continue
            then = demand.steps.finish(done, held)
            work: dict[str, float] = {}
            for step in then - done:
                model = demand.steps.models[step]
                if model is not None:
                    work[model] = work.get(model, 0.0) + demand.work.get(step, 0.0)
            if not held.issubset(work):
                continue  # something would be held in vain
            models, loads = self.match(there, config)
            seconds = stage_seconds(models, loads, work)
            assert seconds is not None
            if demand.batches:
                seconds = max(seconds, chain_seconds(demand, then - done, models, loads))
            yield Stage(models, loads, work, seconds, then - done), then

    def match(self, there: Config, config: Config) -> tuple[Config, tuple[float, ...]]:
        """Give the new sets of models to the workers that have to load least for them."""
        orders = permutations(config) if len(config) <= MATCHED else [nearest(there, config)]
        best = min(orders, key=lambda order: sum(self.loads(there, order)))
        return best, self.loads(there, best)

    def loads(self, there: Config, then: Config) -> tuple[float, ...]:
        """Seconds that every worker loads until it holds the one after the other."""
        pairs = zip(there, then, strict=True)
        return tuple(sum(self.demand.loads.get(m, 0.0) for m in new - old) for old, new in pairs)


def alike(config: Config) -> Config:
    """The same for all orders of the workers, which are alike."""
    return tuple(sorted(config, key=sorted))


def in_order(stage: Stage, order: Sequence[int]) -> Stage:
    """A stage of workers in this order, as it is for them in their own."""
    if list(order) == sorted(order):
        return stage
    place = {worker: number for number, worker in enumerate(order)}
    back = [place[worker] for worker in range(len(order))]
    return replace(
        stage,
        models=tuple(stage.models[n] for n in back),
        loads=tuple(stage.loads[n] for n in back),
    )


def nearest(there: Config, config: Config) -> Config:
    """Every worker in turn takes the set that has most in common with what it holds."""
    left, order = list(config), []
    for held in there:
        order.append(max(left, key=lambda new: len(held & new)))
        left.remove(order[-1])
    return tuple(order)
