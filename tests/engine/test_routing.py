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


def test_where_a_model_is_placed_even_a_few_calls_are_divided() -> None:
    routes, chosen = Routes(3), []
    for _ in range(40):  # they begin alike, and their model is there on the first worker alone
        chosen.append(routes.choose("same", [True, False, False], {0, 2}))
        routes.begins(chosen[-1])
    assert set(chosen) == {0, 2} and abs(chosen.count(0) - chosen.count(2)) <= 1
    assert chosen[:3].count(0) == 2, "who has the model goes first"


def test_who_has_most_of_a_prompt_may_have_a_few_calls_more() -> None:
    routes = Routes(2)
    for _ in range(2):
        routes.begins(0)
    assert routes.choose("turn", [True, True], {0, 1}) == 1
    assert routes.choose("turn", [True, True], {0, 1}, rather=0) == 0
    for _ in range(2 * SLACK):
        routes.begins(0)
    assert routes.choose("turn", [True, True], {0, 1}, rather=0) == 1


def test_beginnings_stay_together_where_there_are_many() -> None:
    routes, seen = Routes(2), dict[int, set[int]]()
    for number in range(400):
        chosen = routes.choose(number // 8, [True, True], {0, 1})
        routes.begins(chosen)
        seen.setdefault(number // 8, set()).add(chosen)
    assert abs(routes.under_way[0] - routes.under_way[1]) <= 40
    assert sum(map(len, seen.values())) <= 1.1 * len(seen)


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
