"""Placements of many models on many workers, by a rule of thumb.

A few ways go on side by side: after every stage those stay whose seconds, with the least that is
left to do, are fewest. Where even one stage has too many ways, a stage is changed by one model at a
time for as long as that makes it do more work per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from .phases import Done, Models
from .placement import Config, Stage
from .placement_stages import LISTED, Stages, alike

TRIED = 5_000
"""Stages that are tried for every stage of the placement, all ways together."""
SIDE_BY_SIDE = 16
"""Most ways that are followed."""


@dataclass(frozen=True, slots=True)
class _Way:
    """The first stages of a placement, and where they lead."""

    seconds: float
    least: float
    """Seconds of any placement that begins like this."""
    done: Done
    stages: tuple[Stage, ...]
    there: Config


class Thumb:
    """The rule, for one demand."""

    def __init__(self, stages: Stages) -> None:
        self.stages, self.demand = stages, stages.demand
        self.all = len(self.demand.steps.needs)

    def place(self, done: Done, there: Config) -> tuple[Stage, ...]:
        """Stages that finish all that is not done."""
        ways, best = [_Way(0.0, 0.0, done, (), there)], None
        configs = self.stages.configs
        listed = len(configs) if configs is not None else LISTED
        width = max(1, min(SIDE_BY_SIDE, TRIED // max(1, listed)))
        while ways:
            found: dict[tuple[Done, Config], _Way] = {}
            for way in ways:
                for further in self.further(way):
                    key = further.done, alike(further.there)
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
        configs = self.stages.configs
        tried: Iterable[tuple[Stage, Done]] = (
            self.stages.tried(way.done, way.there, configs)
            if configs is not None
            else self.climbed(way.done, way.there)
        )
        for stage, then in tried:
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
                near = [c for c in dict.fromkeys(map(alike, self.near(config))) if c not in seen]
                seen.update(near)
                found = list(self.stages.tried(done, there, near))
                yield from found
                best = max((stage for stage, _ in found), key=_rate, default=None)
                if best is None or _rate(best) <= rate:
                    break
                config, rate = best.models, _rate(best)

    def near(self, config: Config) -> Iterator[Config]:
        """This and what differs from it by one model of one worker, or of all of them."""
        yield config
        models = self.stages.models
        for model in models:
            yield tuple(h | {model} if self.demand.fits(h | {model}) else h for h in config)
        for place, held in enumerate(config):
            for new in _neighbours(held, models):
                if self.demand.fits(new):
                    yield (*config[:place], new, *config[place + 1 :])


def _rate(stage: Stage) -> float:
    """Seconds of work done in a second."""
    return sum(stage.work.values()) / (stage.seconds or 1e-9)


def _neighbours(held: Models, models: list[str]) -> Iterator[Models]:
    for model in models:
        yield held ^ {model}
        if model not in held:
            yield from (held - {other} | {model} for other in sorted(held))
