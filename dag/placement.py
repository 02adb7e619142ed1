"""Which models stand on which workers, stage by stage: replicas against switches.

A stage gives every worker a set of models that fits into its memory. In it, everything runs that
asks for no other model, for all rows; the work of a model is shared by the workers that hold it,
and a worker that loads works only afterwards. So with w(S) the seconds of work that ask for a set S
of models, W(S) the workers that hold any of them, and l the seconds a worker loads, a stage takes

    max over S of (w(S) + sum of l over W(S)) / |W(S)|,    and at least the longest l

which a division of the work reaches (rows are many and small). The stages are searched, remembering
the best from every (finished steps, models on the workers); where there are too many, each stage is
the one that does most work per second. Both by the same cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, combinations_with_replacement, permutations

from .phases import Done, Models, Steps

SEARCHED = 2_000
"""States that are searched before the choice is left to the rule of thumb."""
MATCHED = 5
"""Most workers for which all ways to give them new models are tried."""

Config = tuple[Models, ...]
"""The models of every worker."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be placed. Workers are alike."""

    steps: Steps
    work: Mapping[str, float]
    """By step: seconds that it takes one worker, over all rows."""
    loads: Mapping[str, float]
    """By model: seconds that loading it takes."""
    sizes: Mapping[str, int]
    """By model: bytes, weights and KV."""
    workers: int
    memory: int
    """Bytes of each worker."""

    def fits(self, models: Models) -> bool:
        return sum(self.sizes[m] for m in models) <= self.memory


@dataclass(frozen=True, slots=True)
class Stage:
    """What the workers hold for a while."""

    models: Config
    loads: tuple[float, ...]
    """By worker, seconds that it loads first."""
    work: Mapping[str, float]
    """By model, seconds of work that is done in the stage."""
    seconds: float

    def why(self, worker: int) -> str:
        """What a worker is for, with numbers."""
        held = ", ".join(sorted(self.models[worker])) or "nothing"
        load = f", loading {self.loads[worker]:.2f} s" if self.loads[worker] else ""
        without = (*self.models[:worker], frozenset[str](), *self.models[worker + 1 :])
        alone = stage_seconds(without, self.loads, self.work)
        gain = "the only one" if alone is None else f"without it {alone:.2f} s"
        return f"worker {worker}: {held}{load}; the stage takes {self.seconds:.2f} s, {gain}"


@dataclass(frozen=True, slots=True)
class Placement:
    """Stages one after the other."""

    stages: tuple[Stage, ...]
    exact: bool
    """Whether all ways were searched; else a rule of thumb chose."""

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def explain(self) -> str:
        lines = []
        for number, stage in enumerate(self.stages, 1):
            work = ", ".join(f"{m} {s:.2f} s" for m, s in sorted(stage.work.items()))
            lines.append(f"stage {number}: {stage.seconds:.2f} s for {work}")
            lines += [f"  {stage.why(worker)}" for worker in range(len(stage.models))]
        return "\n".join(lines)


def place(demand: Demand, there: Config | None = None, *, searched: int = SEARCHED) -> Placement:
    """The quickest stages that are found. `there` is what the workers hold to begin with.

    Raises ValueError for a model that no worker can hold.
    """
    for model in sorted({m for m in demand.steps.models.values() if m is not None}):
        if not demand.fits(frozenset({model})):
            size, memory = demand.sizes[model], demand.memory
            raise ValueError(f"model {model!r} takes {size:,} bytes, a worker has {memory:,}")
    search = _Search(demand, searched)
    start = there if there is not None else (frozenset[str](),) * demand.workers
    done = demand.steps.finish(frozenset(), frozenset())
    try:
        return Placement(search.best(done, start)[1], True)
    except (_TooMany, RecursionError):
        return Placement(tuple(search.thumb(done, start)), False)


def stage_seconds(
    models: Config, loads: tuple[float, ...], work: Mapping[str, float]
) -> float | None:
    """Seconds of a stage; None when some work has no worker. See the formula above."""
    longest = max((load for load, held in zip(loads, models, strict=True) if held), default=0.0)
    asked = [model for model, seconds in work.items() if seconds > 0]
    for some in _subsets(asked):
        holders = [i for i, held in enumerate(models) if not held.isdisjoint(some)]
        if not holders:
            return None
        spent = sum(work[m] for m in some) + sum(loads[i] for i in holders)
        longest = max(longest, spent / len(holders))
    return longest


class _TooMany(Exception):
    """More states than are searched."""


Best = tuple[float, tuple[Stage, ...]]


class _Search:
    def __init__(self, demand: Demand, searched: int) -> None:
        self.demand, self.searched = demand, searched
        self.known: dict[tuple[Done, Config], Best] = {}

    @cached_property
    def configs(self) -> list[Config]:
        """All ways to give the workers models, which worker is which left open."""
        models = sorted({m for m in self.demand.steps.models.values() if m is not None})
        sets = [frozenset(some) for some in _subsets(models) if self.demand.fits(frozenset(some))]
        return list(combinations_with_replacement([frozenset[str](), *sets], self.demand.workers))

    def best(self, done: Done, there: Config) -> Best:
        if len(done) == len(self.demand.steps.needs):
            return 0.0, ()
        there = tuple(sorted(there, key=sorted))  # workers are alike
        known = self.known.get((done, there))
        if known is None:
            if len(self.known) * len(self.configs) >= self.searched * 10:
                raise _TooMany
            ways = []
            for stage, then in self.stages(done, there):
                seconds, behind = self.best(then, stage.models)
                ways.append((stage.seconds + seconds, (stage, *behind)))
            known = self.known[done, there] = min(ways, key=lambda way: way[0])
        return known

    def stages(self, done: Done, there: Config) -> Iterator[tuple[Stage, Done]]:
        """The stages that finish something, and what is finished after them."""
        demand = self.demand
        wanted = set(demand.steps.wanted(done))
        for config in self.configs:
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
            yield Stage(models, loads, work, seconds), then

    def match(self, there: Config, config: Config) -> tuple[Config, tuple[float, ...]]:
        """Give the new sets of models to the workers that have to load least for them."""
        orders = permutations(config) if len(config) <= MATCHED else [_alike(there, config)]
        best = min(orders, key=lambda order: sum(self.loads(there, order)))
        return best, self.loads(there, best)

    def loads(self, there: Config, then: Config) -> tuple[float, ...]:
        pairs = zip(there, then, strict=True)
        return tuple(sum(self.demand.loads.get(m, 0.0) for m in new - old) for old, new in pairs)

    def thumb(self, done: Done, there: Config) -> Iterator[Stage]:
        while len(done) < len(self.demand.steps.needs):
            stage, done = min(
                self.stages(done, there),
                key=lambda way: way[0].seconds / (sum(way[0].work.values()) or 1e-9),
            )
            there = stage.models
            yield stage


def _alike(there: Config, config: Config) -> Config:
    """Every worker in turn takes the set that has most in common with what it holds."""
    left, order = list(config), []
    for held in there:
        order.append(max(left, key=lambda new: len(held & new)))
        left.remove(order[-1])
    return tuple(order)


def _subsets(models: list[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(models, n) for n in range(1, len(models) + 1))
