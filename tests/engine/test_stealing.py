"""A worker that idles takes calls that wait elsewhere, where that pays, and never else."""

from __future__ import annotations

import random
from math import inf

from hypothesis import example, given
from hypothesis import strategies as st

from plait.engine.stealing import WORTH, Chance, Queue, Stealing, weigh
from plait.engine.ticket import Ticket

from .fleet import Fleet

SIZES = {"small": 1, "big": 1}


def fleet(load: float, steals: bool = True, **given: object) -> Fleet:
    """One worker for each of two models, memory for one of them."""
    loads = {"small": 1.0, "big": load}
    return Fleet(["small", "big"], SIZES, 1, loads, steals, **given)  # type: ignore[arg-type]


def test_who_idles_loads_a_model_when_its_calls_wait_longer() -> None:
    ends = {}
    for steals in (True, False):
        workers = fleet(4.0, steals)
        for _ in range(40):
            workers.ask("big", 1.0)
        ends[steals] = workers.run()
        assert len(workers.done) == 40
    assert ends[False] == 40.0
    assert ends[True] < 25.0  # (40 + 4) / 2, and what ends late on one of them
    first = workers.found  # without stealing
    assert not first


def test_it_does_not_when_loading_takes_longer_than_they_wait() -> None:
    workers = fleet(40.0)
    for _ in range(40):
        workers.ask("big", 1.0)
    assert workers.run() == 40.0 and not workers.moves
    left = workers.dispatch.stealing.left
    assert left is not None and not left.worth and "leaves" in left.why


def test_the_load_of_what_must_go_is_priced_if_a_plan_will_ask_for_it() -> None:
    queue = Queue("big", 10, 10.0, 10.0, 1)
    assert weigh(queue, Chance(0, 2.0)).worth
    assert not weigh(queue, Chance(0, 2.0, ("small",), back=3.0)).worth
    told = weigh(queue, Chance(0, 2.0, ("small",), back=1.0))
    assert told.worth and told.saved == 3.0 and told.calls == 4
    assert "loading small again 1.00 s" in told.why and "saves 3.00 s" in told.why


def test_a_model_that_fits_nowhere_else_is_not_loaded() -> None:
    workers = Fleet(["small", "big"], {"small": 1, "big": 3}, 2, {"small": 1.0, "big": 0.1})
    for _ in range(40):
        workers.ask("big", 1.0)
    assert workers.run() == 40.0 and not workers.moves


def test_who_has_the_model_takes_calls_without_a_load() -> None:
    workers = Fleet(["big", "big"], SIZES, 1, {"small": 1.0, "big": 50.0})
    for _ in range(2):
        workers.ask("big", 10.0)
    for worker in workers.workers[:1]:  # calls that began alike and piled up
        for _ in range(20):
            ticket = Ticket("big", "big", "same", seconds=1.0)
            workers.dispatch.begins(ticket, 0)
            worker.queue.append(ticket)
    workers.run()
    assert not workers.moves and workers.found and not workers.found[0].load


def test_guests_make_room_for_those_at_home() -> None:
    """Calls of the model that had to go come again and again: none of them waits for all guests."""
    waited: list[float] = []

    def again(ticket: Ticket, workers: Fleet) -> None:
        if ticket.model == "big" and len(waited) < 20:
            workers.ask("small", 0.5)
            waited.append(workers.clock)

    workers = fleet(1.0, again=again)
    for _ in range(200):
        workers.ask("big", 1.0)
    end = workers.run()
    assert len(workers.done) == 200 + len(waited)
    assert end < 200  # sooner than without


def test_loads_in_vain_become_rare() -> None:
    """Calls turn out to be nothing as soon as their model has been loaded for them."""
    stealing = Stealing(1)
    loads = 0
    for _ in range(1_000):
        queue = Queue("big", 100, 30.0, 30.0, 1)
        steal = stealing.decide([(queue, Chance(0, 1.0))])
        loads += steal is not None
    assert 1 <= loads <= 6
    assert len(stealing.log) == loads and stealing.left is not None
    stealing = Stealing(1)
    for _ in range(20):  # where they are what they were taken for, it goes on
        assert stealing.decide([(queue, Chance(0, 1.0))]) is not None
        stealing.worked(0, "big", 15.0)


def test_calls_that_are_much_less_than_expected_are_soon_known_to_be() -> None:
    workers = fleet(4.0, took=0.01)
    for _ in range(4):
        for _ in range(40):
            workers.ask("big", 1.0)
        workers.run()
    assert len(workers.moves) <= 1


numbers = st.floats(0.0, 1e4)


@given(st.integers(1, 500), numbers, numbers, st.integers(1, 8), numbers, numbers)
@example(47, 2789.5705465593055, 2790.0, 1, 0.0, 0.0)
@example(1, 1e-300, 1.0, 1, 0.0, 0.0)  # too little to change the sum
def test_a_steal_is_worth_what_it_says(
    calls: int, seconds: float, more: float, workers: int, load: float, back: float
) -> None:
    steal = weigh(Queue("m", calls, seconds, seconds + more, workers), Chance(0, load, (), back))
    assert 0 <= steal.calls <= calls
    if steal.worth:
        moved = (steal.saved + back) * workers
        assert 0 < moved <= seconds + 1e-6
        assert steal.saved >= WORTH * (load + back) - 1e-9
        # All end sooner: the thief, and those it takes calls from.
        wait = (seconds + more) / workers
        assert load + moved <= wait + 1e-6 and wait - moved / workers <= wait < inf
    assert str(steal.worker) in steal.why


def test_random_fleets_end_and_never_hold_too_much() -> None:
    """`Fleet` asserts both."""
    gains = []
    for seed in range(150):
        rng = random.Random(seed)
        names = "abcd"[: rng.randint(1, 4)]
        sizes = {m: rng.randint(1, 3) for m in names}
        loads = {m: rng.choice([0.1, 1.0, 5.0, 30.0]) for m in names}
        homes = [rng.choice(names) for _ in range(rng.randint(1, 3))] + list(names)
        calls = [(rng.choice(names), rng.uniform(0.1, 3.0)) for _ in range(rng.randint(1, 120))]
        late = [(rng.choice(names), rng.uniform(0.1, 2.0)) for _ in range(rng.randint(0, 30))]
        ends = {}
        for steals in (True, False):
            left = list(late)

            def again(ticket: Ticket, fleet: Fleet, left: list[tuple[str, float]] = left) -> None:
                if left:
                    fleet.ask(*left.pop())

            workers = Fleet(homes, sizes, 3, loads, steals, again=again)
            for model, seconds in calls:
                workers.ask(model, seconds)
            ends[steals] = workers.run()
            assert len(workers.done) == len(calls) + len(late) - len(left)
        gains.append(ends[False] / ends[True])
    gains.sort()
    print(f"seconds without stealing over those with it: {gains[0]:.2f} at worst, "
          f"{sum(gains) / len(gains):.2f} in the mean, {gains[-1]:.2f} at best")  # fmt: skip
    assert sum(gains) / len(gains) > 1.1 and gains[0] > 0.95
