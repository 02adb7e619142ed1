"""Which models stand on which workers, stage by stage: replicas against switches.

A stage gives every worker a set of models that fits into its memory. In it, everything runs that
asks for no other model, for all rows; the work of a model is shared by the workers that hold it,
and a worker that loads works only afterwards. So with w(S) the seconds of work that ask for a set S
of models, W(S) the workers that hold any of them, and l the seconds a worker loads, a stage takes

    max over S of (w(S) + sum of l over W(S)) / |W(S)|,    and at least the longest l

which a division of the work reaches where rows are many and small. A few rows are computed in one
batch: what comes after it waits for all of it, and models on different workers do not work side by
side; and a few calls are not divided. So with d(s) the seconds of a step on the workers that do it,
and b(s) the batches in which its calls are computed, a stage takes no less than

    max over chains C of steps of sum of d(s) / b(s) over C  +  max of d(s) (1 - 1 / b(s)) over C

and the load before the first. `placement_search.py` finds stages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import inf
from typing import Any

from .explain import seconds_text
from .phases import Models, Steps

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
    batches: Mapping[str, float] = field(default_factory=dict)
    """By step, in how many batches its calls are computed; those of other steps are many."""
    undivided: frozenset[str] = frozenset()
    """Steps of so few calls that one worker does them all."""

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
    steps: frozenset[str] = frozenset()
    """Steps that are finished in it."""

    def why(self, worker: int) -> str:
        """What a worker holds and what for, with numbers."""
        held = ", ".join(map(self._what_for, sorted(self.models[worker])))
        if not self.models[worker]:
            return f"worker {worker}: nothing"
        without = (*self.models[:worker], frozenset[str](), *self.models[worker + 1 :])
        alone = stage_seconds(without, self.loads, self.work)
        least = None if alone is None else seconds_text(max(alone, self.seconds))
        gain = "nothing else has it" if least is None else f"without it {least} at least"
        load = f"loads {seconds_text(self.loads[worker])}; " if self.loads[worker] else ""
        return f"worker {worker}: {held}: {load}{gain}"

    def _what_for(self, model: str) -> str:
        holders = sum(model in held for held in self.models)
        shared = f" on {holders} workers" if holders > 1 else ""
        return f"model {model} ({seconds_text(self.work.get(model, 0.0))} of work{shared})"

    def as_dict(self) -> dict[str, Any]:
        workers = [
            {"models": sorted(held), "load_seconds": round(load, 6), "why": self.why(number)}
            for number, (held, load) in enumerate(zip(self.models, self.loads, strict=True))
        ]
        work = {model: round(seconds, 6) for model, seconds in sorted(self.work.items())}
        return {"seconds": round(self.seconds, 6), "work": work, "workers": workers}


@dataclass(frozen=True, slots=True)
class Placement:
    """Stages one after the other."""

    stages: tuple[Stage, ...]
    exact: bool
    """Whether all ways were searched; else a rule of thumb chose."""
    rehearsed: int = 0
    """Placements that were rehearsed if this was quickest of them, whatever the formula says."""

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def explain(self) -> str:
        how = "the quickest there is" if self.exact else "found by a rule of thumb"
        how = f"the quickest of {self.rehearsed} rehearsed" if self.rehearsed else how
        lines = [f"placement: {seconds_text(self.seconds)} of work and loads, {how}"]
        for number, stage in enumerate(self.stages, 1):
            lines.append(f"  stage {number}: {seconds_text(stage.seconds)}")
            lines += [f"    {stage.why(worker)}" for worker in range(len(stage.models))]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        stages = [stage.as_dict() for stage in self.stages]
        tried = {"rehearsed": self.rehearsed} if self.rehearsed else {}
        seconds = round(self.seconds, 6)
        return {"seconds": seconds, "exact": self.exact, **tried, "stages": stages}


def stage_seconds(
    models: Config, loads: tuple[float, ...], work: Mapping[str, float]
) -> float | None:
    """Seconds of a stage; None when some work has no worker. See the formula above."""
    longest = max((load for load, held in zip(loads, models, strict=True) if held), default=0.0)
    shared: dict[frozenset[int], float] = {}
    for model, seconds in work.items():
        if seconds > 0:
            holders = frozenset(i for i, held in enumerate(models) if model in held)
            if not holders:
                return None
            shared[holders] = shared.get(holders, 0.0) + seconds
    for some in _overlapping(shared):
        theirs = sum(seconds for holders, seconds in shared.items() if holders <= some)
        longest = max(longest, (theirs + sum(loads[i] for i in some)) / len(some))
    return longest


def _overlapping(shared: Collection[frozenset[int]]) -> Iterator[frozenset[int]]:
    """The workers that share work, and all that these share with others: of workers that have
    nothing to do with each other, some take longer than all together, or as long."""
    found = dict.fromkeys(shared)
    left = list(found)
    while left:
        some = left.pop()
        yield some
        more = (some | other for other in shared if not some.isdisjoint(other))
        left += (new for new in dict.fromkeys(more) if new not in found)
        found |= dict.fromkeys(left)


def chain_seconds(
    demand: Demand, steps: Collection[str], models: Config, loads: tuple[float, ...]
) -> float:
    """Seconds that a stage takes at least, as its steps wait for each other. See the formula."""
    ready: dict[str | None, list[float]] = {
        model: [load for load, held in zip(loads, models, strict=True) if model in held]
        for model in frozenset().union(*models)
    }
    first, most, longest = dict[str, float](), dict[str, float](), 0.0
    for step, needs in demand.steps.needs.items():
        if step not in steps:
            continue
        begun, slowest = 0.0, 0.0
        for need in needs:
            if need in first:
                begun, slowest = max(begun, first[need]), max(slowest, most[need])
        there = ready.get(demand.steps.models[step])
        if there is not None:
            workers = 1 if step in demand.undivided else len(there)
            seconds = demand.work.get(step, 0.0) / workers
            share = 1 / demand.batches.get(step, inf)
            begun = max(begun, min(there)) + seconds * share
            slowest = max(slowest, seconds * (1 - share))
        first[step], most[step] = begun, slowest
        longest = max(longest, begun + slowest)
    return longest


def subsets(models: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All sets of some of the models, small ones first."""
    return chain.from_iterable(combinations(models, n) for n in range(1, len(models) + 1))
