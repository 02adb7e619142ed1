"""Several workers in a rehearsal: they follow the policies of real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from plait import llm, tool, workflow
from plait.dag.dispatching import Site, Takeover
from plait.dag.estimates import Estimates, operator_key
from plait.dag.logical import Plan
from plait.dag.names import named_nodes
from plait.dag.placement import Placement, Stage
from plait.dag.plan import make_plan
from plait.dag.rehearsal import Stage as Scene
from plait.dag.rehearsal import rehearse
from plait.dag.rehearsed import Rehearsed
from plait.dag.rehearsed_device import Device
from plait.dag.workflow import as_workflow
from plait.engine.llm.costs import Costs
from plait.engine.llm.scheduler import Limits
from plait.engine.rehearsed_dispatch import RehearsedDispatch
from plait.engine.rehearsed_model import RehearsedModel
from plait.engine.ticket import Ticket

COSTS = Costs(step=1e-3, token=1e-5, token_context=0.0, decode_row=1e-3, kv_token=0.0)
SIZES = {"small": 1, "big": 1}
ROWS = [{"text": f"row {i}"} for i in range(60)]


@llm(model="small", max_tokens=8)
def sketch(text: str) -> str:
    return f"sketch {text}"


@llm(model="big", max_tokens=40)
def refine(text: str) -> str:
    return f"refine {text}"


@tool(effect="pure")
def look(text: str) -> str:
    return text


@workflow
def pair(text: str) -> str:
    return refine(sketch(text))


@llm(model="small", max_tokens=1)
def note(text: str) -> str:
    return f"note {text}"


@workflow
def short(text: str) -> str:
    return note(text)


@workflow
def searched(text: str) -> str:
    return refine(look(sketch(text)))


def went(
    target: Any, *held: str, load: float | Mapping[str, float] = 0.1, limit: int | None = None,
    steals: bool = True, processors: Sequence[int] = (), running: int = 4,
    rows: Sequence[Mapping[str, str]] = ROWS,
    policy: type[RehearsedDispatch] = RehearsedDispatch,
) -> Rehearsed:  # fmt: skip
    """A batch on workers on which these models are placed."""
    plan = placed(make_plan(as_workflow(target), rows), held)
    loads = load if isinstance(load, Mapping) else dict.fromkeys(SIZES, load)
    dispatch = policy(len(held), plan, {m: m for m in SIZES}, dict.fromkeys(SIZES, COSTS), {})
    if not steals:
        dispatch.steal = lambda worker, sites: None  # type: ignore[method-assign]
    devices = [
        Device(
            {m: RehearsedModel(COSTS, 4_000, limits=Limits(2_048, running)) for m in SIZES},
            there=frozenset(), sizes=SIZES, limit=limit, loads=loads,
            start=frozenset(models.split()), processor=processors[n] if processors else n,
        )
        for n, models in enumerate(held)
    ]  # fmt: skip
    nodes = dict(named_nodes(plan.parts[0].workflow))
    given = {operator_key(nodes["look"]): 0.05} if "look" in nodes else {}
    scene = Scene(devices=devices, dispatch=dispatch)
    return rehearse(plan, [list(rows)], Estimates(given=given), scene)


def placed(plan: Plan, held: Sequence[str]) -> Plan:
    config = tuple(frozenset(models.split()) for models in held)
    asked = frozenset(f"0:{id}" for id in plan.parts[0].workflow.nodes)
    stage = Stage(config, (0.0,) * len(held), dict.fromkeys(SIZES, 1.0), 1.0, asked)
    return replace(plan, placement=Placement((stage,), True))


def calls(found: Rehearsed, model: str) -> dict[int, int]:
    """Tokens that each worker has generated with a model."""
    names = {int(name.partition(" on ")[2]): u for name, u in found.used.items() if model in name}
    return {worker: used.decode_tokens for worker, used in names.items()}


def test_two_workers_with_the_same_models_share_the_calls() -> None:
    one = went(pair, "small big")
    two = went(pair, "small big", "small big")
    assert sum(calls(two, "big").values()) == 60 * 40 and min(calls(two, "big").values()) > 0.3 * 60
    assert two.seconds < 0.65 * one.seconds
    assert sum(two.busy.values()) == pytest.approx(sum(one.busy.values()), rel=0.2)
    assert two.seconds >= max(two.busy.values())


def test_workers_on_one_device_gain_nothing() -> None:
    one = went(pair, "small big")
    two = went(pair, "small big", "small big", processors=(0, 0))
    assert two.seconds > 0.95 * one.seconds


def test_rows_begin_while_models_that_are_asked_later_come() -> None:
    found = went(pair, "small", "big", steals=False, load={"small": 0.1, "big": 9.0})
    assert found.busy[0] < 9.0 - 0.1, "the first model has done its work by then"
    assert found.seconds == pytest.approx(9.0 + found.busy[1], abs=0.05)
    assert went(pair, "small", "small", steals=False, load=0.5).seconds > 0.5


def test_models_are_loaded_where_they_are_placed_as_the_batch_begins() -> None:
    found = went(pair, "small", "big", steals=False, load=0.5)
    assert sorted(found.loads) == ["big", "small"] and found.load_seconds == 1.0
    assert found.loading == {0: 0.5, 1: 0.5}
    assert calls(found, "small") == {0: 60 * 8, 1: 0} and calls(found, "big") == {0: 0, 1: 60 * 40}
    assert found.seconds > 0.5 + found.busy[1]


@pytest.mark.parametrize("target", [pair, searched])
@pytest.mark.parametrize("limit", [1, 2])
def test_who_idles_takes_calls_and_the_batch_ends_sooner(target: Any, limit: int) -> None:
    alone = went(target, "small", "big", steals=False, limit=limit)
    found = went(target, "small", "big", limit=limit)
    assert calls(alone, "big")[0] == 0 and calls(found, "big")[0] > 0
    assert found.seconds < 0.75 * alone.seconds
    assert len(found.loads) <= 4
    assert sum(t.generated for t in found.nodes.values()) == 60 * 48


class Greedy(RehearsedDispatch):
    """Who idles has every call begin anew once, also those in the step under way."""

    taken: set[Ticket]

    def steal(self, worker: int, sites: Sequence[Site]) -> Takeover | None:
        self.taken = getattr(self, "taken", set())
        found = {ticket: n for ticket, n in self._numbers.items() if ticket not in self.taken}
        self.taken |= found.keys()
        for ticket in found:
            ticket.taken = worker
        return Takeover("small", (), tuple(found.values())) if found else None


def test_a_call_in_its_last_step_ends_where_it_is() -> None:
    rows = [{"text": f"row {i}"} for i in range(600)]
    found = went(short, "small", "big", policy=Greedy, rows=rows)
    assert found.nodes["note"].calls == found.nodes["note"].generated == 600
    assert calls(found, "small") == {0: 600, 1: 0}


def test_it_leaves_them_where_a_load_takes_longer() -> None:
    alone = went(pair, "small", "big", steals=False, load=5.0)
    found = went(pair, "small", "big", load=5.0)
    assert found.loads == alone.loads and found.seconds == pytest.approx(alone.seconds)


def test_models_take_turns_on_each_worker_under_its_own_memory() -> None:
    found = went(pair, "small", "small", limit=1)
    assert found.nodes["refine"].calls == 60 and set(found.loads) == {"small", "big"}
    assert len(found.loads) <= 4  # each worker changes once


def test_a_rehearsal_of_several_repeats_itself() -> None:
    assert went(searched, "small", "big") == went(searched, "small", "big")
