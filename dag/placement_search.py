"""The quickest stages of a placement.

All ways are searched, remembering the best few from every (finished steps, models on the workers).
Where there are too many, a rule of thumb chooses; see `placement_thumb`.
"""

from __future__ import annotations

from .phases import Done
from .placement import Config, Demand, Placement, Stage
from .placement_stages import Stages, in_order
from .placement_thumb import Thumb

SEARCHED = 400_000
"""Stages that are tried, times the steps there are, before the choice is left to the rule of
thumb."""


def place(demand: Demand, there: Config | None = None, *, searched: int = SEARCHED) -> Placement:
    """The quickest stages that are found. `there` is what the workers hold to begin with.

    Raises ValueError for a model that no worker can hold.
    """
    stages = Stages(demand)
    for model in stages.models:
        if not demand.fits(frozenset({model})):
            size, memory = demand.sizes[model], demand.memory
            raise ValueError(f"model {model!r} takes {size:,} bytes, a worker has {memory:,}")
    start = there if there is not None else (frozenset[str](),) * demand.workers
    try:
        return Placement(_Search(stages, searched).best(demand.steps.begun, start)[0][1], True)
    except (_TooMany, RecursionError):
        return Placement(Thumb(stages).place(demand.steps.begun, start), False)


def places(demand: Demand, there: Config, most: int) -> list[Placement]:
    """The quickest placements there are, this many at most, also those that differ only in which
    worker gets which models, unless these are too many; none where there are too many ways to
    search them all in the time that `place` takes."""
    for stages in (Stages(demand, which=True), Stages(demand)):
        try:
            found = _Search(stages, SEARCHED // most, most).best(demand.steps.begun, there)
        except (_TooMany, RecursionError):
            continue
        return [Placement(stages, True) for _, stages in found]
    return []


class _TooMany(Exception):
    """More stages than are searched."""


Best = tuple[float, tuple[Stage, ...]]


class _Search:
    def __init__(self, stages: Stages, searched: int, most: int = 1) -> None:
        self.stages, self.searched, self.most = stages, searched, most
        self.known: dict[tuple[Done, Config], list[Best]] = {}
        self.all = len(stages.demand.steps.needs)

    def best(self, done: Done, there: Config) -> list[Best]:
        """The quickest ways on from here, at most so many, the quickest first."""
        if len(done) == self.all:
            return [(0.0, ())]
        # Workers are alike: what is best for them holds in any order of them.
        order = sorted(range(len(there)), key=lambda worker: sorted(there[worker]))
        return [
            (seconds, tuple(in_order(stage, order) for stage in stages))
            for seconds, stages in self.ways(done, tuple(there[worker] for worker in order))
        ]

    def ways(self, done: Done, there: Config) -> list[Best]:
        """The same, of workers in the order of what they hold."""
        known, configs = self.known.get((done, there)), self.stages.configs
        if known is None:
            if configs is None or len(self.known) * self.stages.most * self.all >= self.searched:
                raise _TooMany
            ways = [
                (stage.seconds + seconds, (stage, *behind))
                for stage, then in self.stages.tried(done, there, configs)
                for seconds, behind in self.best(then, stage.models)
            ]
            known = self.known[done, there] = sorted(ways, key=lambda way: way[0])[: self.most]
        return known
