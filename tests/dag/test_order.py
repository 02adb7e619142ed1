"""The order of rows against the best there is: every order tried, under KV memory of all sizes."""

from __future__ import annotations

import random
from array import array
from functools import cache
from itertools import combinations, islice, permutations, product

import plait
from plait import llm, workflow
from plait.benchmarks import time_gap
from plait.benchmarks.order_gap import measured
from plait.dag.ordering import Footprints, moves, search, shake
from plait.dag.plan import make_plan
from plait.dag.prefixes import Group
from plait.dag.route import improve, length


def test_moves_never_make_an_order_longer() -> None:
    rng = random.Random(1)
    for size in range(1, 9):
        points = [rng.random() for _ in range(size)]
        apart = [[abs(a - b) for b in points] for a in points]
        order = list(range(size))
        better = improve(order, apart)
        assert sorted(better) == order and length(better, apart) <= length(order, apart)
        # On a line the best way goes from one end to the other.
        assert abs(length(better, apart) - (max(points) - min(points))) < 1e-9


def test_the_order_is_close_to_the_best_one() -> None:
    gap = measured()
    print(gap)
    assert gap.instances >= 500
    assert gap.mean <= 0.005 and gap.worst <= 0.03
    assert gap.as_given > 0.02, "batches whose order does not matter tell nothing"


def test_whole_plans_are_close_to_the_quickest_ones() -> None:
    """With tools between calls and all else that a rehearsal knows."""
    gap = time_gap.measured(40)
    print(gap)
    assert gap.mean <= 0.005 and gap.worst <= 0.03
    assert gap.mean < gap.first_mean < gap.as_given


def test_of_two_orders_that_compute_the_same_the_one_that_overlaps_better_is_cheaper() -> None:
    """Two rows of one document, two of another, and memory for one document."""
    column = array("i", (1, 2, 1, 2))
    both = [Group(0, name, (column,), (10.0,)) for name in ("first", "second")]
    footprints = Footprints(both, 4, 10.0)
    assert footprints.computed((0, 2, 1, 3)) == 20.0
    assert footprints.overlapped((0, 2, 1, 3)) < footprints.overlapped((0, 1, 2, 3))
    assert footprints.price((0, 2, 1, 3)) < footprints.price((0, 1, 2, 3))


def groups(rng: random.Random, rows: int) -> list[Group]:
    """Two nodes with prompts of two slots, of one token each."""
    numbers: dict[tuple[int, ...], int] = {}
    found = []
    for node in range(2):
        one = [rng.randrange(3) for _ in range(rows)]
        two = [rng.randrange(2) for _ in range(rows)]
        upper = [numbers.setdefault((node, a), len(numbers)) for a in one]
        lower = [
            numbers.setdefault((node, a, b), len(numbers)) for a, b in zip(one, two, strict=True)
        ]
        found.append(Group(0, f"n{node}", (array("i", upper), array("i", lower)), (1.0, 1.0)))
    return found


def fewest(footprints: Footprints, order: tuple[int, ...]) -> int:
    """Tokens computed in this order when whatever may be kept is tried out."""
    room, needs = int(footprints.memory), footprints.needed(order)

    @cache
    def from_here(place: int, held: frozenset[int]) -> int:
        if place == len(order):
            return 0
        needed = frozenset(needs[place])
        there = held | needed
        kept = combinations(sorted(there), min(room, len(there)))
        behind = min(from_here(place + 1, frozenset(keep)) for keep in kept)
        return len(needed - held) + behind

    return from_here(0, frozenset())


def test_what_is_kept_is_chosen_as_well_as_can_be() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        # Calls of the first node may be the same; the second one's are each a row's own.
        same = {"n0": array("i", (rng.randrange(4) for _ in range(5)))}
        footprints = Footprints(groups(rng, 5), 5, rng.choice([4.0, 5.0, 6.0, 8.0]), same)
        for order in rng.sample(list(permutations(range(5))), 3):
            assert footprints.computed(order) == fewest(footprints, order)


def test_with_room_for_everything_the_order_is_free_and_every_prefix_is_computed_once() -> None:
    rng = random.Random(3)
    footprints = Footprints(groups(rng, 6), 6, 1e9)
    prices = {footprints.computed(order) for order in permutations(range(6))}
    assert prices == {float(len(footprints.tokens))}


def test_moves_and_shaking_lose_no_row() -> None:
    rng = random.Random(5)
    order = rng.sample(range(9), 9)
    tried = list(moves(order))
    assert len(tried) > 100 and all(sorted(t) == list(range(9)) for t in tried)
    assert all(sorted(shake(order, rng)) == list(range(9)) for _ in range(50))


def test_a_search_returns_the_start_when_nothing_is_better_and_keeps_to_its_tries() -> None:
    asked = []

    def price(order: object) -> float:
        asked.append(order)
        return 1.0

    assert search([[2, 0, 1, 3]], price, 40) == [2, 0, 1, 3]
    assert len(asked) <= 42


@llm(max_tokens=4)
def noted(text: str, person: str) -> str:
    return f"{person}: {text}"


@workflow
def read_all(texts: list[str], person: str) -> list[str]:
    return plait.map(noted, texts, person=person)


def test_calls_in_bodies_order_no_rows_even_if_there_are_as_many() -> None:
    rows = [{"texts": [f"text {i}"], "person": "one and the same"} for i in range(4)]
    assert make_plan(read_all.workflow, rows).parts[0].order is None


def test_few_rows_that_share_much_run_side_by_side() -> None:
    """What two of many values begin with in common weighs what it is, not a mean over all."""
    common = "a long preamble " * 50
    rows = [{"text": f"text {i} " * 20, "person": "p"} for i in range(12)]
    rows[2]["text"], rows[9]["text"] = common + "one", common + "two"
    order = list(make_plan(single.workflow, rows, memory=400.0).parts[0].order or range(12))
    assert abs(order.index(2) - order.index(9)) == 1


@workflow
def single(text: str, person: str) -> str:
    return only(text, person)


@llm(max_tokens=4)
def only(text: str, person: str) -> str:
    return f"{text} {person}"


@llm(max_tokens=4)
def about(text: str, number: int) -> str:
    return f"Text: {text} Number: {number}"


@llm(max_tokens=4)
def speaking(person: str, number: int) -> str:
    return f"You are {person} Number: {number}"


@workflow
def crossed(text: str, person: str, number: int) -> list[str]:
    return [about(text, number), speaking(person, number)]


def test_a_larger_batch_is_ordered_by_what_memory_keeps() -> None:
    """Three persons fit beside a text. From row to row fewer tokens are new if persons go first,
    but then every text is computed three times."""
    texts, persons = [f"{n} text " * 90 for n in range(20)], [f"{n} person " * 90 for n in range(3)]
    rows = [
        {"text": text, "person": person, "number": n}
        for n, (person, text) in enumerate(product(persons, texts))
    ]
    plan = make_plan(crossed.workflow, rows, memory=1_500.0)
    order = list(plan.parts[0].order or range(len(rows)))
    runs = sum(rows[a]["text"] != rows[b]["text"] for a, b in zip(order, order[1:], strict=False))
    assert len(rows) > 48 and runs == len(texts) - 1


def test_moves_of_a_long_order_are_not_listed_before_they_are_tried() -> None:
    assert len(list(islice(moves(range(20_000)), 5))) == 5
    assert sorted(map(tuple, moves([0, 1, 2]))).count((2, 1, 0)) >= 1
