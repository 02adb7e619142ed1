"""The stages that a placement can go on with: what the workers may hold next, and what is finished
then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import chain, combinations_with_replacement, permutations
from math import comb, factorial

from .phases import Done
from .placement import Config, Demand, Stage, chain_seconds, stage_seconds, subsets

LISTED = 1_000
"""Most ways to give models to workers that are tried one by one."""
MATCHED = 5
"""Most workers for which all ways to give them new models are tried."""


class Stages:
    """Those of one demand: whatever is done, and whatever is there. `which`: of a set of models for
    each worker, go on with every way to say which worker gets which, not just with the one that
    loads least."""

    def __init__(self, demand: Demand, which: bool = False) -> None:
        self.demand, self.which = demand, which
        self._matched: dict[tuple[Config, Config], list[Config]] = {}
        seconds = demand.loads.get
        self._loaded = cache(lambda old, new: sum(seconds(m, 0.0) for m in sorted(new - old)))
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

    @cached_property
    def most(self) -> int:
        """Stages that are tried at most from whatever is there; 0 where ways are not listed."""
        listed, workers = len(self.configs or ()), self.demand.workers
        return listed * (factorial(workers) if self.which and workers <= MATCHED else 1)

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
            for step in demand.steps.needs:
                if step in done or step not in then:
                    continue
                model = demand.steps.models[step]
                if model is not None:
                    work[model] = work.get(model, 0.0) + demand.work.get(step, 0.0)
            if not held.issubset(work):
                continue  # something would be held in vain
            for models in self.matched(there, config):
                loads = self.loads(there, models)
                seconds = stage_seconds(models, loads, work)
                assert seconds is not None
                if demand.batches:
                    seconds = max(seconds, chain_seconds(demand, then - done, models, loads))
                yield Stage(models, loads, work, seconds, then - done), then

    def matched(self, there: Config, config: Config) -> list[Config]:
        """The new sets of models given to workers: those first that load least for them."""
        if len(config) > MATCHED:
            return [nearest(there, config)]
        found = self._matched.get((there, config))
        if found is None:
            orders = dict.fromkeys(permutations(config))
            found = sorted(orders, key=lambda order: sum(self.loads(there, order)))
            found = self._matched[there, config] = found if self.which else found[:1]
        return found

    def loads(self, there: Config, then: Config) -> tuple[float, ...]:
        """Seconds that every worker loads until it holds the one after the other."""
        return tuple(map(self._loaded, there, then))


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
