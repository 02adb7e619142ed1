"""Who does a call: where it is placed, near what begins like it, and where it was expected."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait import llm, workflow
from plait.dag.ahead import Ahead
from plait.dag.dispatching import Site
from plait.dag.placement import Placement, Stage
from plait.dag.plan import make_plan
from plait.engine.dispatch import Dispatch
from plait.engine.homes import Homes
from plait.engine.ticket import Ticket


def ticket(key: str = "a", model: str = "m", row: str = "0", **more: object) -> Ticket:
    return Ticket(model, "asked", key, (row, "asked"), **more)  # type: ignore[arg-type]


def homes(dispatch: Dispatch, *held: str) -> None:
    config = tuple(frozenset(models.split()) for models in held)
    stage = Stage(config, (0.0,) * len(held), {}, 0.0, frozenset({"0:asked"}))
    dispatch.homes.follow(Placement((stage,), True), {})


def test_a_call_goes_where_its_beginning_was_computed_for_it() -> None:
    dispatch, has = Dispatch(2), [True, True]
    dispatch.begins(ticket("b"), dispatch.choose(ticket("b"), has))  # somebody else's
    first = dispatch.expects(ticket("a", row="1"), has)
    assert sorted(dispatch.routes.under_way) == [1, 1]  # it counts, before it is there
    for _ in range(3):  # calls that begin alike drive the beginning elsewhere
        other = ticket("a", row="2")
        dispatch.routes._last["a"] = 1 - first
        dispatch.begins(other, dispatch.choose(other, has))
    mine = ticket("a", row="1")
    assert dispatch.choose(mine, has) == first
    dispatch.begins(mine, first)
    dispatch.ends(mine, 1.0)
    assert not dispatch._tasks and sum(dispatch.routes.under_way) == 4
    early, late = ticket("c", row="9"), ticket("c", row="9")
    dispatch.expects(early, has)
    dispatch.expects(late, has)
    dispatch.forget(early)  # in its place came another, which is still expected
    assert sum(dispatch.routes.under_way) == 5
    dispatch.forget(late)
    dispatch.forget(late)
    assert sum(dispatch.routes.under_way) == 4


def test_a_conversation_goes_on_where_it_was() -> None:
    dispatch, has = Dispatch(3), [True] * 3
    where = {}
    for row in "abcdefghijklmnop":  # they all begin alike, and are too many for one worker
        turn = ticket("same", row=row, goes_on=True)
        where[row] = dispatch.choose(turn, has)
        dispatch.begins(turn, where[row])
    assert len(set(where.values())) > 1
    for row, worker in where.items():
        assert dispatch.expects(ticket("same", row=row), has) == worker
        assert dispatch.choose(ticket("same", row=row, goes_on=True), has) == worker
    assert sum(dispatch.routes.under_way) == len(where)


def test_a_guest_gets_no_calls_while_somebody_at_home_waits() -> None:
    dispatch = Dispatch(2)
    homes(dispatch, "small", "big")
    guest = ticket(model="big")
    dispatch.routes._last["a"] = 0
    assert dispatch.choose(guest, [True, True]) == 0
    own = ticket(model="small")
    dispatch.begins(own, 0)
    dispatch.waits(own, True)
    assert dispatch.choose(guest, [True, True]) == 1
    dispatch.waits(own, False)
    dispatch.routes._last["a"] = 0
    assert dispatch.choose(guest, [True, True]) == 0


@llm(model="small")
def sketch(text: str) -> str:
    return f"sketch {text}"


@llm(model="big")
def refine(text: str) -> str:
    return f"refine {text}"


@workflow
def pair(text: str) -> str:
    return refine(sketch(text))


def test_a_model_is_asked_for_until_its_calls_have_been_made() -> None:
    plan = make_plan(pair.workflow, [{"text": t} for t in "aabc"])
    config = (frozenset({"small"}), frozenset({"big"}))
    asked = frozenset({"0:sketch", "0:refine"})
    found = Homes()
    placement = Placement((Stage(config, (0.0, 0.0), {}, 0.0, asked),), True)
    found.follow(placement, {"small": "small", "big": "big"}, plan)
    for _ in range(3):
        assert found.asked("small", 0) and not found.asked("small", 1)
        found.answered("small", "sketch")
    assert not found.asked("small", 0) and found.asked("big", 1)
    found.ended(Placement(placement.stages, True))  # of an earlier plan
    assert found.asked("big", 1)
    found.ended(placement)  # rows have failed, or nobody asked for them
    assert not found.asked("big", 1) and found.of("big", "refine") is None
    unknown = Homes()
    unknown.follow(placement, {})
    unknown.answered("small", "sketch")
    assert unknown.asked("small", 0)


def placed(*held: str) -> Placement:
    """Both steps of the pair on workers that hold these models."""
    config = tuple(frozenset(models.split()) for models in held)
    steps = frozenset({"0:sketch", "0:refine"})
    return Placement((Stage(config, (0.0,) * len(held), {}, 0.0, steps),), True)


def test_what_a_plan_has_placed_ends_with_it() -> None:
    found, ahead = Homes(), Ahead(pair.workflow)
    placement = placed("small", "big")
    found.follow(placement, {})
    assert found.of("big", "refine") == frozenset({1})
    assert found.view(ahead, 0).models["refine"] is None
    found.ended(placement)
    assert found.of("big", "refine") is None and found.view(ahead, 0).models["refine"] == "big"
    found.ended(placement)  # twice is no harm


def test_plans_under_way_at_once_do_not_end_each_others_homes() -> None:
    plan = make_plan(pair.workflow, [{"text": t} for t in "ab"])
    first, second = placed("small big", "", ""), placed("", "small", "big")
    for order in ((first, second), (second, first)):
        found = Homes()
        for placement in (first, second):
            found.follow(placement, {}, plan)
        assert found.of("small", "sketch") == frozenset({0, 1})
        assert found.of("big", "refine") == frozenset({0, 2})
        for _ in range(3):
            found.answered("small", "sketch")  # of four that come
        assert found.asked("small", 0) or found.asked("small", 1)
        found.ended(order[0])
        workers = {"small": 0, "big": 0} if order[1] is first else {"small": 1, "big": 2}
        for step, model in (("sketch", "small"), ("refine", "big")):
            assert found.of(model, step) == frozenset({workers[model]})
        assert found.asked("big", workers["big"]) and not found.asked("big", 2 - workers["big"])
        found.ended(order[1])
        assert found.of("small", "sketch") is None and not found._followed


def test_a_placement_of_equal_stages_is_another_one() -> None:
    found, (one, two) = Homes(), (placed("small big"), placed("small big"))
    assert one == two
    found.follow(one, {})
    found.follow(two, {})
    found.ended(two)
    assert found.of("big", "refine") == frozenset({0})


def test_calls_that_have_begun_are_not_taken_over() -> None:
    dispatch = Dispatch(2)
    calls = [ticket(f"{i}", row=f"{i}", seconds=1.0, priority=float(i % 3)) for i in range(9)]
    for call in calls:
        dispatch.begins(call, 0)
    begun = [call for call in calls if call.priority == 0.0]  # whose turn would come last
    for call in (*begun, *begun):
        dispatch.begun(call)
    sites = [Site(frozenset("m"), queued={"m": 9}), Site(frozenset("m"))]  # it was 9 just before
    steal = dispatch.steal(1, sites)
    assert steal is not None and (steal.waiting, steal.begun) == (6, 3)
    assert "that nobody has begun" in steal.why and "beside 3 that have begun" in steal.why
    taken = dispatch.taken(steal, sites)
    assert len(taken) == steal.calls and not set(taken) & set(begun)
    assert [call.priority for call in taken] == sorted(call.priority for call in taken)
    for call in taken:  # and begin anew where they come
        dispatch.ends(call)
        dispatch.begins(call, 1)
        dispatch.begun(call)
    for call in calls:
        dispatch.ends(call, 1.0)
    assert dispatch.idle(0) and dispatch.idle(1) and not any(call.begun for call in calls)


actions = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from("ab")))


@given(actions)
def test_no_call_is_lost_whatever_happens(steps: list[tuple[int, int, str]]) -> None:
    dispatch = Dispatch(3)
    homes(dispatch, "a", "b", "")
    sites = [Site(frozenset("ab"), queued={"a": 2, "b": 2}) for _ in range(3)]
    there: list[Ticket] = []
    for kind, place, model in steps:
        if kind < 3:
            call = Ticket(model, "asked", place, seconds=1.0)
            worker = dispatch.choose(call, [True, False, place == 1])
            assert dispatch.homes.of(model, "asked") is None or worker in (0, 1, 2)
            dispatch.begins(call, worker)
            there.append(call)
            if kind == 0:
                dispatch.waits(call, True)
            if kind == 1:
                dispatch.begun(call)
        elif kind == 3 and there:
            dispatch.ends(there.pop(place % len(there)), 1.0)
        elif dispatch.idle(place):
            steal = dispatch.steal(place, sites)
            for taken in dispatch.taken(steal, sites) if steal is not None else ():
                assert taken in there and taken.worker != place and not taken.begun
                dispatch.ends(taken)
                worker = dispatch.choose(taken, [True] * 3)
                assert worker == place
                dispatch.begins(taken, worker)
        under_way = array("i", dispatch.routes.under_way)
        assert sum(under_way) == len(there)
        assert [dispatch.idle(w) for w in range(3)] == [n == 0 for n in under_way]
    for call in there:
        dispatch.ends(call, 1.0)
    assert dispatch.routes.under_way == [0, 0, 0] and not dispatch.missing()
    assert dispatch.work.ratio("a") == pytest.approx(1.0)
