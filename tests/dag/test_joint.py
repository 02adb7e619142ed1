"""Order and placement together, against all orders on all placements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.benchmarks.joint_batches import Instance, instance
from plait.benchmarks.joint_gap import all_placements, lost
from plait.dag.imagined import Imagination
from plait.dag.logical import Plan
from plait.dag.rehearsal import Stage
from plait.dag.trying import GAIN, ORDERS, tried

SEEDS = 120


@pytest.fixture(scope="module")
def batches() -> list[Instance]:
    """Those whose orders and placements are few."""
    found = map(instance, range(SEEDS))
    return [one for one in found if len(one.rows) == 3 and len(all_placements(one.demand)) < 12]


def test_what_order_and_placement_lose_together_is_bounded(batches: Sequence[Instance]) -> None:
    found = [lost(one) for one in batches]
    taken, formula = [gap.taken for gap in found], [gap.formula for gap in found]
    print(f"{len(found)} batches: {fmean(taken):.2%}, {max(taken):.2%}; {fmean(formula):.2%}")
    assert len(found) >= 36 and any(one.workers > 1 for one in batches)
    assert fmean(taken) <= 0.005 and max(taken) <= 0.03
    assert fmean(taken) < fmean(formula) / 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 0.2))
def test_what_is_taken_is_never_slower_than_what_the_formula_finds(seed: int, share: float) -> None:
    one, stages = instance(seed), list[Stage]()

    def stage(plan: Plan) -> Stage:
        stages.append(one.scene(plan))
        return stages[-1]

    before, texts = one.by_formula, Imagination()
    plan = tried(before, one.rows, one.estimates, stage, texts, one.others, 1.0, share)
    told = plan.trials
    assert len(stages) == (told.orders if told is not None else 0) <= ORDERS
    assert (plan is before) == (told is None)
    if told is None:
        return
    own, taken = (one.seconds(each, texts) for each in (before, plan))
    assert (told.by_tokens, told.seconds) == pytest.approx((own, taken))
    assert taken == own or taken <= own * (1 - GAIN) + 1e-9
    assert plan.placement is not None and before.placement is not None
    assert plan.placement.rehearsed == (told.placements if told.placements > 1 else 0)
    stages_of = [placement.stages for placement in (before.placement, *one.others)]
    assert plan.placement.stages in stages_of
    same = replace(plan, parts=before.parts, trials=None, placement=before.placement)
    assert same == before, "nothing else changes"
