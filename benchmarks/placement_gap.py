"""How far placements of models on workers are from the quickest ones: a line of `plait bench gap`.

Small random demands: steps that wait for each other, models that take long to load or not, workers
that hold one model or two. The oracle tries all sets of models on all workers, stage after stage,
and works out how long a stage takes in its own way. Compared are the seconds of the stages; which
rows go first in them is not in it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from plait.dag.phases import Steps
from plait.dag.placement import Demand, Placement
from plait.dag.placement_search import SEARCHED, place

INSTANCES = 500
Instance = tuple[Demand, float]
"""What is to be placed, and the least seconds that it can take."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Seconds over those of the quickest placement, as shares of the latter."""

    instances: int
    mean: float
    worst: float
    exact: int
    """Placements that were found by trying all ways."""
    searched: int
    """Stages, times steps, that might be tried for that."""
    milliseconds: float
    """To place, on average."""

    def __str__(self) -> str:
        how = "by a rule of thumb alone" if not self.searched else f"{self.exact} searched whole"
        return (
            f"{self.instances} random placements, {how}, against the quickest of all: "
            f"{self.mean:.2%} more seconds in the mean, {self.worst:.2%} at worst; "
            f"{self.milliseconds:.1f} ms to place"
        )


def instances(count: int = INSTANCES) -> list[Instance]:
    """The first so many demands."""
    return [(demand, oracle(demand)) for demand in map(random_demand, range(count))]


def measured(against: Sequence[Instance], searched: int = SEARCHED) -> Gap:
    """The gap of placements for these demands, with so many stages to be tried before a rule of
    thumb takes over (0: it places all)."""
    found: list[Placement] = []
    start = time.perf_counter()
    for demand, _ in against:
        found.append(place(demand, searched=searched))
    milliseconds = (time.perf_counter() - start) / len(against) * 1e3
    gaps = [p.seconds / least - 1 for p, (_, least) in zip(found, against, strict=True)]
    assert min(gaps, default=0.0) > -1e-6, "nothing is quicker than the quickest"
    exact = sum(p.exact for p in found)
    return Gap(len(gaps), statistics.fmean(gaps), max(gaps), exact, searched, milliseconds)


def random_demand(seed: int) -> Demand:
    """Up to six steps of up to three models on up to two workers."""
    rng = random.Random(seed)
    models = "abc"[: rng.randint(1, 3)]
    names = [f"s{i}" for i in range(rng.randint(1, 6))]
    needs = {
        n: tuple(rng.sample(names[:i], min(i, rng.randint(0, 2)))) for i, n in enumerate(names)
    }
    return Demand(
        Steps(needs, {n: rng.choice(models) for n in names}),
        {n: rng.choice([0.5, 1.0, 4.0, 10.0]) for n in names},
        {m: rng.choice([0.2, 1.0, 5.0]) for m in models},
        dict.fromkeys(models, 1), rng.randint(1, 2), rng.randint(1, 2),
    )  # fmt: skip


def flow_seconds(
    held: tuple[frozenset[str], ...], loads: tuple[float, ...], work: dict[str, float]
) -> float:
    """Seconds of a stage found the other way round: bisect for the least that water-filling can
    do, with the work of models poured over workers by augmenting paths."""
    low, high = max(loads), sum(work.values()) + sum(loads) + 1
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (low, middle) if _feasible(held, loads, work, middle) else (middle, high)
    return high


def _feasible(
    held: tuple[frozenset[str], ...], loads: tuple[float, ...], work: dict[str, float], end: float
) -> bool:
    room = [end - load if models else 0.0 for load, models in zip(loads, held, strict=True)]
    poured: dict[tuple[str, int], float] = {}
    for model, seconds in work.items():
        left = seconds
        while left > 1e-9:
            path = _path(model, held, room, poured)
            if path is None:
                return False
            (first, *_), last = path, path[-1][1]
            most = min([left, room[last], *(poured[m, w] for m, w in _taken(path))])
            assert first[0] == model
            for m, w in path:
                poured[m, w] = poured.get((m, w), 0.0) + most
            for m, w in _taken(path):
                poured[m, w] -= most
            room[last] -= most
            left -= most
    return True


def _taken(path: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """What a path moves away: each next model leaves the worker the one before it goes to."""
    return [(path[i + 1][0], path[i][1]) for i in range(len(path) - 1)]


def _path(
    model: str, held: tuple[frozenset[str], ...], room: list[float],
    poured: dict[tuple[str, int], float],
) -> list[tuple[str, int]] | None:  # fmt: skip
    seen, queue = {model}, [(model, list[tuple[str, int]]())]
    for at, path in queue:
        for worker, models in enumerate(held):
            if at not in models:
                continue
            if room[worker] > 1e-9:
                return [*path, (at, worker)]
            for other in models - seen:
                if poured.get((other, worker), 0.0) > 1e-9:
                    seen.add(other)
                    queue.append((other, [*path, (at, worker)]))
    return None


def oracle(demand: Demand) -> float:
    """Least seconds over all sets of models on all workers, one stage after the other."""
    models = sorted(demand.sizes)
    sets = [frozenset(m for m, on in zip(models, bits, strict=True) if on)
            for bits in product((0, 1), repeat=len(models))]  # fmt: skip
    sets = [s for s in sets if len(s) <= demand.memory]

    @cache
    def best(done: frozenset[str], there: tuple[frozenset[str], ...]) -> float:
        if len(done) == len(demand.steps.needs):
            return 0.0
        found = float("inf")
        for then in product(sets, repeat=demand.workers):
            after = demand.steps.finish(done, frozenset().union(*then))
            if after == done:
                continue
            work: dict[str, float] = {}
            for step in after - done:
                model = demand.steps.models[step] or ""
                work[model] = work.get(model, 0.0) + demand.work[step]
            pairs = list(zip(there, then, strict=True))
            loads = tuple(sum(demand.loads[m] for m in new - old) for old, new in pairs)
            behind = best(after, then)
            if (sum(work.values()) + sum(loads)) / demand.workers + behind < found:
                found = min(found, flow_seconds(then, loads, work) + behind)
        return found

    return best(frozenset(), (frozenset[str](),) * demand.workers)
