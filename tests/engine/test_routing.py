"""Who is given a call: prompts that begin alike stay together, plans say where."""

from __future__ import annotations

import random

from plait.dag.ahead import Ahead
from plait.dag.estimates import Estimates
from plait.dag.logical import Plan
from plait.dag.placement import Placement, Stage
from plait.dag.workflow import as_workflow
from plait.engine.backends.fake import FakeBackend
from plait.engine.executor import Executor
from plait.engine.homes import Homes
from plait.engine.options import Options
from plait.engine.routing import SHARE, SLACK, Routes

from .operators import pair


def test_calls_that_begin_alike_stay_together_within_a_share() -> None:
    routes = Routes(3)
    rng, under_way = random.Random(1), list[int]()
    kept = total = 0
    last: dict[str, int] = {}
    for _ in range(2_000):
        if under_way and rng.random() < 0.45:
            routes.ends(under_way.pop(rng.randrange(len(under_way))))
            continue
        key = rng.choice("aaaaabcdef")  # one prefix is half of all calls
        worker = routes.choose(key, [True] * 3)
        assert routes.under_way[worker] <= SHARE * (sum(routes.under_way) + 1) / 3 + SLACK
        routes.begins(worker)
        under_way.append(worker)
        total += key in last
        kept += last.get(key) == worker
        last[key] = worker
    assert kept / total > 0.8
    assert sum(routes.under_way) == len(under_way)


def test_a_few_calls_load_no_second_model_and_many_do() -> None:
    routes = Routes(2)
    there = [True, False]
    chosen = []
    for number in range(40):
        chosen.append(routes.choose(number, there))
        routes.begins(chosen[-1])
        there[chosen[-1]] = True
    assert chosen[:SLACK] == [0] * SLACK and 15 <= sum(chosen) <= 25


async def test_models_are_placed_by_what_earlier_runs_have_shown() -> None:
    told: list[object] = []

    class Placing(FakeBackend):
        def placed(self, plan: Plan, known: Estimates | None = None) -> Plan:
            raise AssertionError("asked by `explain` only")

        async def arrange(self, plan: Plan, known: Estimates | None = None) -> Plan:
            told.append(known)
            return plan

        def ended(self, plan: Plan) -> None:
            told.append("ended")

    known = Estimates()
    executor = Executor(as_workflow(pair), Placing(), Options(known=known))
    rows = [row async for row in executor.run([{"who": "a", "topic": "b"}])]
    assert rows[0].status == "ok" and told == [known, "ended"]


def test_what_lies_ahead_of_a_worker_is_what_is_placed_there() -> None:
    homes, ahead = Homes(), Ahead(as_workflow(pair))
    config = (frozenset({"small"}), frozenset({"big"}))
    steps = frozenset(f"0:{step}" for step in ahead.needs)
    homes.follow(Placement((Stage(config, (0.0, 0.0), {}, 0.0, steps),), exact=True), {})
    seen = [{m for m in homes.view(ahead, w).models.values() if m} for w in (0, 1)]
    assert seen == [{"small"}, {"big"}] and homes.view(ahead, 0) is homes.view(ahead, 0)
