"""Placements that are worth a rehearsal beside the one that a formula finds quickest.

The seconds of a stage are those of many small rows. In a batch of a few rows a replica may stand
idle, or two models on two workers take longer than one that has both, and no formula says when: the
quickest of a rehearsal is among the first by the formula, seldom the very first.
"""

from __future__ import annotations

from .phases import Steps
from .placement import Config, Demand, Placement
from .placement_search import places

MOST = 40
"""Placements that are looked at beside the one that is given."""


def others(placement: Placement, demand: Demand, there: Config) -> tuple[Placement, ...]:
    """The next placements by the formula, those first that it finds quicker, without what tells
    workers the same; none where they could not all be searched."""
    if not placement.exact:
        return ()
    unlike = {told(placement, demand.steps): placement}
    for one in places(demand, there, MOST + 1):
        unlike.setdefault(told(one, demand.steps), one)
    return tuple(unlike.values())[1 : MOST + 1]


def told(placement: Placement, steps: Steps) -> tuple[Config, frozenset[tuple[str, int]]]:
    """What workers are told: what to begin with, and who does which steps."""
    homes = frozenset(
        (step, worker) for stage in placement.stages for step in stage.steps
        for worker, held in enumerate(stage.models) if steps.models[step] in held
    )  # fmt: skip
    return placement.stages[0].models, homes
