"""Models on workers: against a search that tries everything, and known cases."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.benchmarks.placement_gap import Instance, instances, measured
from plait.dag import placement_stages, placement_thumb
from plait.dag.phases import Steps, moves
from plait.dag.placement import Config, Demand, chain_seconds, stage_seconds, subsets
from plait.dag.placement_search import place, places
from plait.dag.placements import MOST, others, told


@pytest.fixture(scope="module")
def demands() -> list[Instance]:
    """Demands with the least seconds they can take."""
    return instances()


def test_no_placement_is_quicker(demands: list[Instance]) -> None:
    for demand, least in demands:
        found = place(demand)
        assert found.exact and found.seconds == pytest.approx(least)


@pytest.mark.parametrize(
    ("listed", "mean_gap", "worst_gap"), [(1_000, 0.001, 0.01), (0, 0.001, 0.05)]
)
def test_the_rule_of_thumb_is_close(
    demands: list[Instance], monkeypatch: pytest.MonkeyPatch,
    listed: int, mean_gap: float, worst_gap: float,
) -> None:  # fmt: skip
    """Also where stages are too many to be listed, and are found by changing one model."""
    for module in (placement_stages, placement_thumb):
        monkeypatch.setattr(module, "LISTED", listed)
    gap = measured(demands, searched=0)
    print(f"listed {listed}: {gap}")
    assert gap.instances >= 500 and gap.exact == 0
    assert -1e-6 < gap.mean < mean_gap and gap.worst < worst_gap


def random_start(seed: int) -> tuple[Demand, Config]:
    """Models on some workers before anything is placed."""
    rng = random.Random(seed)
    models, workers = "abcd"[: rng.randint(2, 4)], rng.randint(2, 3)
    names = [f"s{i}" for i in range(rng.randint(3, 7))]
    steps = Steps(
        {n: tuple(rng.sample(names[:i], min(i, rng.randint(0, 2)))) for i, n in enumerate(names)},
        {n: rng.choice(models) for n in names},
    )
    work = {n: rng.choice([0.5, 1.0, 4.0, 10.0]) for n in names}
    loads = {m: rng.choice([0.1, 1.0, 5.0]) for m in models}
    memory = rng.randint(1, 2)
    demand = Demand(steps, work, loads, dict.fromkeys(models, 1), workers, memory)
    there = tuple(frozenset(rng.sample(models, rng.randint(0, 1))) for _ in range(workers))
    return demand, there


def test_workers_load_what_they_do_not_hold() -> None:
    """Also where the ways on were found for the same workers in another order."""
    for seed in (344, 1200, *range(150)):
        demand, there = random_start(seed)
        found = place(demand, there)
        ways = places(demand, there, 5)
        assert not ways or ways[0].seconds == pytest.approx(found.seconds)
        assert all(a.seconds <= b.seconds + 1e-9 for a, b in pairwise(ways))
        for placement in (found, *ways):
            held = there
            for stage in placement.stages:
                new = [then - now for now, then in zip(held, stage.models, strict=True)]
                assert stage.loads == tuple(sum(demand.loads[m] for m in some) for some in new)
                assert stage_seconds(stage.models, stage.loads, stage.work) == stage.seconds
                held = stage.models


def test_many_workers_and_models_are_placed_in_few_tries() -> None:
    names = [f"s{i}" for i in range(12)]
    steps = Steps(
        {n: tuple(names[:i][-1:]) for i, n in enumerate(names)},
        {n: f"m{i % 6}" for i, n in enumerate(names)},
    )
    models = {f"m{i}": 1.0 + i for i in range(6)}
    demand = Demand(
        steps, dict.fromkeys(names, 5.0), models, dict.fromkeys(models, 1), 8, 2
    )  # fmt: skip
    found = place(demand)
    assert not found.exact
    assert frozenset().union(*(stage.steps for stage in found.stages)) == set(names)
    bound = (sum(demand.work.values()) + sum(models.values())) / 8
    assert bound <= found.seconds < 2.5 * bound


def two(work: float, load: float, workers: int = 2) -> Demand:
    """Small, then big, each with so much work."""
    steps = Steps({"s": (), "b": ("s",)}, {"s": "small", "b": "big"})
    loads = {"small": load, "big": load}
    return Demand(steps, {"s": work, "b": work}, loads, {"small": 1, "big": 1}, workers, 1)


def test_dear_loads_keep_models_apart_and_cheap_ones_make_replicas() -> None:
    apart = place(two(work=1.0, load=10.0))
    assert len(apart.stages) == 1 and sorted(map(sorted, apart.stages[0].models)) == [
        ["big"], ["small"],
    ]  # fmt: skip
    replicas = place(Demand(Steps({"s": ()}, {"s": "m"}), {"s": 10.0}, {"m": 1.0}, {"m": 1}, 2, 1))
    assert replicas.stages[0].models == (frozenset("m"), frozenset("m"))
    assert replicas.seconds == pytest.approx(6.0)


def test_a_few_rows_wait_for_their_batch_and_a_few_calls_are_not_divided() -> None:
    steps = Steps({"a": (), "b": ("a",)}, {"a": "x", "b": "y"})
    many = Demand(steps, {"a": 4.0, "b": 2.0}, {"x": 2.0, "y": 2.0}, {"x": 1, "y": 1}, 2, 1)
    assert place(many).seconds == pytest.approx(6.0), "side by side"
    few = replace(many, batches={"a": 1.0, "b": 1.0})
    apart = (frozenset("x"), frozenset("y"))
    assert chain_seconds(few, {"a", "b"}, apart, (2.0, 2.0)) == pytest.approx(8.0)
    assert chain_seconds(many, {"a", "b"}, apart, (2.0, 2.0)) == pytest.approx(6.0)
    halves = replace(many, batches={"a": 2.0, "b": 2.0})
    assert chain_seconds(halves, {"a", "b"}, apart, (2.0, 2.0)) == pytest.approx(2 + 2 + 1 + 2)
    both = (frozenset("x"), frozenset("x"))
    assert chain_seconds(few, {"a"}, both, (2.0, 2.0)) == pytest.approx(4.0)
    undivided = replace(few, undivided=frozenset("a"))
    assert chain_seconds(undivided, {"a"}, both, (2.0, 2.0)) == pytest.approx(6.0)


def test_those_worth_a_rehearsal_are_the_next_by_the_formula(demands: list[Instance]) -> None:
    nothing, differ = frozenset[str](), 0
    for demand, least in demands[:100]:
        there = (nothing,) * demand.workers
        found = place(demand, there)
        further = others(found, demand, there)
        assert found not in further and len(further) <= MOST
        for one in further:
            assert frozenset().union(*(s.steps for s in one.stages)) <= set(demand.steps.needs)
            assert one.seconds >= least - 1e-6
        assert all(a.seconds <= b.seconds + 1e-9 for a, b in pairwise(further))
        unlike = {told(one, demand.steps) for one in (found, *further)}
        assert len(unlike) == 1 + len(further), "no two tell workers the same"
        differ += bool(further)
    assert differ > 20
    demand, there = two(1.0, 10.0), (nothing, frozenset({"big"}))
    found = place(demand, there)
    alone = [
        one
        for one in (found, *others(found, demand, there))
        if all(not stage.models[0] for stage in one.stages)
    ]
    assert alone, "one worker may do it all: the one that has something"
    assert others(replace(found, exact=False), demand, there) == ()


def test_it_says_why() -> None:
    found = place(two(work=4.0, load=1.0))
    told = found.explain()
    assert "the quickest of 3 rehearsed" in replace(found, rehearsed=3).explain()
    assert (
        "stage 1" in told
        and "worker 0: model big (4.00 s of work)" in told
        and "loads 1.00 s" in told
    )


def test_what_fits_nowhere_is_refused() -> None:
    demand = two(1.0, 1.0)
    big = Demand(demand.steps, demand.work, demand.loads, {"small": 1, "big": 3}, 2, 2)
    with pytest.raises(ValueError, match="'big' takes 3 bytes, a worker has 2"):
        place(big)


def test_one_worker_loads_as_seldom_as_phases_say() -> None:
    steps = Steps(
        {"1": (), "2": ("1",), "3": ("2",), "4": ("3",)}, dict(zip("1234", "abab", strict=True))
    )
    demand = Demand(steps, dict.fromkeys("1234", 1.0), {"a": 1.0, "b": 1.0}, {"a": 1, "b": 1}, 1, 1)
    assert len(place(demand).stages) == len(moves(steps))


def test_stage_seconds() -> None:
    a, b = frozenset("a"), frozenset("b")
    assert stage_seconds((a, a | b), (0.0, 0.0), {"a": 4.0, "b": 4.0}) == 4.0
    assert stage_seconds((a, b), (1.0, 0.0), {"a": 4.0, "b": 1.0}) == 5.0
    assert stage_seconds((a, a), (2.0, 0.0), {"a": 4.0}) == 3.0
    assert stage_seconds((a, frozenset()), (0.0, 0.0), {"b": 1.0}) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.frozensets(st.sampled_from("abcd")), min_size=1, max_size=4),
    st.lists(st.sampled_from((0.0, 0.5, 2.0)), min_size=4, max_size=4),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from((0.0, 1.0, 3.0))),
)
def test_stage_seconds_are_those_of_the_busiest_set_of_models(
    held: list[frozenset[str]], loads: list[float], work: dict[str, float]
) -> None:
    models, ready = tuple(held), tuple(loads[: len(held)])
    most: float | None = max((a for a, h in zip(ready, models, strict=True) if h), default=0.0)
    for some in subsets([m for m, seconds in work.items() if seconds]):
        holders = [i for i, h in enumerate(models) if not h.isdisjoint(some)]
        if not holders:
            most = None
            break
        assert most is not None
        spent = sum(work[m] for m in some) + sum(ready[i] for i in holders)
        most = max(most, spent / len(holders))
    found = stage_seconds(models, ready, work)
    assert found == (None if most is None else pytest.approx(most))


def test_seconds_of_many_models_that_share_no_worker_or_all_of_them() -> None:
    names = [f"m{i}" for i in range(40)]
    work = {name: float(i) for i, name in enumerate(names)}
    apart = tuple(frozenset({name}) for name in names)
    assert stage_seconds(apart, (0.0,) * 40, work) == 39.0
    assert stage_seconds((frozenset(names),) * 2, (1.0, 1.0), work) == sum(work.values()) / 2 + 1
