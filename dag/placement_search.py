"""The quickest stages of a placement.

All ways are searched, remembering the best from every (finished steps, models on the workers).
Where there are too many, a few ways go on side by side: after every stage those stay whose seconds,
with the least that is left to do, are fewest. Where even one stage has too many ways, a stage is
changed by one model at a time for as long as that makes it do more work per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations_with_replacement, permutations
from math import comb

from .phases import Done, Models
from .placement import Config, Demand, Placement, Stage, stage_seconds, subsets

SEARCHED = 20_000
"""Stages that are tried before the choice is left to the rule of thumb."""
TRIED = 5_000
"""Stages that the rule of thumb tries for every stage of the placement, all ways together."""
SIDE_BY_SIDE = 16
"""Most ways that it follows."""
LISTED = 1_000
"""Most ways to give models to workers that are tried one by one."""
MATCHED = 5
"""Most workers for which all ways to give them new models are tried."""


def place(
    demand: Demand, there: Config | None = None, *, searched: int = SEARCHED, replicas: bool = True
) -> Placement:  # fmt: skip
    """The quickest stages that are found. `there` is what the workers hold to begin with. Without
    `replicas`, a model stands on one worker at a time.

    Raises ValueError for a model that no worker can hold.
    """
    for model in _models(demand):
        if not demand.fits(frozenset({model})):
            size, memory = demand.sizes[model], demand.memory
            raise ValueError(f"model {model!r} takes {size:,} bytes, a worker has {memory:,}")
    search = _Search(demand, searched, replicas)
    start = there if there is not None else (frozenset[str](),) * demand.workers
    done = demand.steps.finish(frozenset(), frozenset())
    try:
        return Placement(search.best(done, start)[1], True)
    except (_TooMany, RecursionError):
        return Placement(search.thumb(done, start), False)


class _TooMany(Exception):
    """More stages than are searched."""


Best = tuple[float, tuple[Stage, ...]]


@dataclass(frozen=True, slots=True)
class _Way:
    """The first stages of a placement, and where they lead."""

    seconds: float
    least: float
    """Seconds of any placement that begins like this."""
    done: Done
    stages: tuple[Stage, ...]
    there: Config


class _Search:
    def __init__(self, demand: Demand, searched: int, replicas: bool) -> None:
        self.demand, self.searched, self.replicas = demand, searched, replicas
        self.known: dict[tuple[Done, Config], Best] = {}
        self.all = len(demand.steps.needs)

    @cached_property
    def configs(self) -> list[Config] | None:
        """All ways to give the workers models, which worker is which left open; None: too many."""
        models, workers = _models(self.demand), self.demand.workers
        if len(models) > LISTED.bit_length():
            return None
        sets = [frozenset(some) for some in subsets(models) if self.demand.fits(frozenset(some))]
        if comb(len(sets) + workers, workers) > LISTED:
            return None
        return list(combinations_with_replacement([frozenset[str](), *sets], workers))

    # -- all ways ------------------------------------------------------------------------------

    def best(self, done: Done, there: Config) -> Best:
        if len(done) == self.all:
            return 0.0, ()
        if self.configs is None:
            raise _TooMany
        known = self.known.get((done, _alike(there)))
        if known is None:
            if len(self.known) * len(self.configs) >= self.searched:
                raise _TooMany
            ways = []
            for stage, then in self.tried(done, there, self.configs):
                seconds, behind = self.best(then, stage.models)
                ways.append((stage.seconds + seconds, (stage, *behind)))
            known = self.known[done, _alike(there)] = min(ways, key=lambda way: way[0])
        return known

    # -- a few ways ----------------------------------------------------------------------------

    def thumb(self, done: Done, there: Config) -> tuple[Stage, ...]:
        ways, best = [_Way(0.0, 0.0, done, (), there)], None
        listed = len(self.configs) if self.configs is not None else LISTED
        width = max(1, min(SIDE_BY_SIDE, TRIED // max(1, listed)))
        while ways:
            found: dict[tuple[Done, Config], _Way] = {}
            for way in ways:
                for further in self.further(way):
                    key = further.done, _alike(further.there)
                    if key not in found or further.seconds < found[key].seconds:
                        found[key] = further
            for way in found.values():
                if len(way.done) == self.all and (best is None or way.seconds < best.seconds):
                    best = way
            left = (w for w in found.values() if best is None or w.least < best.seconds)
            ways = sorted(left, key=lambda way: way.least)[:width]
        return best.stages if best is not None else ()

    def further(self, way: _Way) -> Iterator[_Way]:
        if len(way.done) == self.all:
            return
        if self.configs is not None:
            stages: Iterable[tuple[Stage, Done]] = self.tried(way.done, way.there, self.configs)
        else:
            stages = self.climbed(way.done, way.there)
        for stage, then in stages:
            seconds = way.seconds + stage.seconds
            least = seconds + self.least(then, stage.models)
            yield _Way(seconds, least, then, (*way.stages, stage), stage.models)

    def least(self, done: Done, there: Config) -> float:
        """Seconds that no placement of what is left undercuts: all its work, and each of its models
        that nobody holds loaded once, divided among all workers."""
        demand, held = self.demand, frozenset(chain.from_iterable(there))
        left = [step for step in demand.steps.needs if step not in done]
        models = {demand.steps.models[step] for step in left} - held - {None}
        loads = sum(demand.loads.get(m, 0.0) for m in models if m is not None)
        return (sum(demand.work.get(step, 0.0) for step in left) + loads) / demand.workers

    def climbed(self, done: Done, there: Config) -> Iterator[tuple[Stage, Done]]:
        """The stages met while one model is changed at a time, and each does more per second; from
        every model that is wanted, and from what is there."""
        nothing = (frozenset[str](),) * (len(there) - 1)
        seen: set[Config] = set()
        for start in (there, *((frozenset({m}), *nothing) for m in self.demand.steps.wanted(done))):
            config, rate = start, 0.0
            while True:
                near = [c for c in dict.fromkeys(map(_alike, self.near(config))) if c not in seen]
                seen.update(near)
                found = list(self.tried(done, there, near))
                yield from found
                best = max((stage for stage, _ in found), key=_rate, default=None)
                if best is None or _rate(best) <= rate:
                    break
                config, rate = best.models, _rate(best)

    def near(self, config: Config) -> Iterator[Config]:
        """This and what differs from it by one model of one worker, or of all of them."""
        yield config
        models = _models(self.demand)
        for model in models:
            yield tuple(h | {model} if self.demand.fits(h | {model}) else h for h in config)
        for place, held in enumerate(config):
            for new in _neighbours(held, models):
                if self.demand.fits(new):
                    yield (*config[:place], new, *config[place + 1 :])

    # -- stages --------------------------------------------------------------------------------

    def tried(
        self, done: Done, there: Config, configs: Iterable[Config]
    ) -> Iterator[tuple[Stage, Done]]:
        """The stages that finish something, and what is finished after them."""
        demand = self.demand
        wanted = set(demand.steps.wanted(done))
        for config in configs:
            held = frozenset(chain.from_iterable(config))
            if held.isdisjoint(wanted) or not (self.replicas or len(held) == sum(map(len, config))):
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
            yield Stage(models, loads, work, seconds, then - done), then

    def match(self, there: Config, config: Config) -> tuple[Config, tuple[float, ...]]:
        """Give the new sets of models to the workers that have to load least for them."""
        orders = permutations(config) if len(config) <= MATCHED else [_nearest(there, config)]
        best = min(orders, key=lambda order: sum(self.loads(there, order)))
        return best, self.loads(there, best)

    def loads(self, there: Config, then: Config) -> tuple[float, ...]:
        pairs = zip(there, then, strict=True)
        return tuple(sum(self.demand.loads.get(m, 0.0) for m in new - old) for old, new in pairs)


def _models(demand: Demand) -> list[str]:
    return sorted({m for m in demand.steps.models.values() if m is not None})


def _alike(config: Config) -> Config:
    """Workers are alike: the same for all orders of them."""
    return tuple(sorted(config, key=sorted))


def _rate(stage: Stage) -> float:
    """Seconds of work done in a second."""
    return sum(stage.work.values()) / (stage.seconds or 1e-9)


def _neighbours(held: Models, models: list[str]) -> Iterator[Models]:
    for model in models:
        yield held ^ {model}
        if model not in held:
            yield from (held - {other} | {model} for other in sorted(held))


def _nearest(there: Config, config: Config) -> Config:
    """Every worker in turn takes the set that has most in common with what it holds."""
    left, order = list(config), []
    for held in there:
        order.append(max(left, key=lambda new: len(held & new)))
        left.remove(order[-1])
    return tuple(order)
