"""Placements that differ in kind from the one that a formula finds, and are worth a rehearsal.

The seconds of a stage are those of many small rows. In a batch of a few rows a replica may stand
idle, or two models on two workers take longer than one that has both, and no formula says when.
"""

from __future__ import annotations

from dataclasses import replace

from .placement import Config, Demand, Placement
from .placement_search import place


def others(placement: Placement, demand: Demand, there: Config) -> tuple[Placement, ...]:
    """The quickest placement by the formula without replicas, and on one worker alone: of those
    that have most to begin with, as `there` says. Without what is the same as the one given; none
    where that could not be searched whole, as these would take as long again.
    """
    if demand.workers < 2 or not placement.exact:
        return ()
    found = [placement, place(demand, there, replicas=False), _alone(demand, there)]
    unlike = {tuple(stage.models for stage in one.stages): one for one in reversed(found)}
    return tuple(one for one in reversed(unlike.values()) if one is not placement)


def _alone(demand: Demand, there: Config) -> Placement:
    """The quickest placement on one worker; the others hold nothing."""
    has = [sum(demand.loads.get(m, 0.0) for m in held) for held in there]
    most = has.index(max(has))
    found = place(replace(demand, workers=1), (there[most],))
    stages = (
        replace(
            stage,
            models=tuple(stage.models[0] if w == most else frozenset() for w in range(len(has))),
            loads=tuple(stage.loads[0] if w == most else 0.0 for w in range(len(has))),
        )
        for stage in found.stages
    )
    return replace(found, stages=tuple(stages))
