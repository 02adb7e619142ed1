"""A plan with its price: made with the tokenizer and the costs of the models it will run on, and
rehearsed in virtual time, as many of its rows as there is time for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice

from ..dag.cost import Cost
from ..dag.estimates import Estimates
from ..dag.identity import row_id
from ..dag.known import NOTHING, Known
from ..dag.logical import Plan, positions
from ..dag.nodes import Workflow
from ..dag.numbering import Row
from ..dag.optimize import Observer, unobserved
from ..dag.plan import make_plan
from ..dag.pricing import cost_of
from ..dag.profile import Profile
from ..dag.rehearsals import ordered
from ..dag.rules.merge_calls import merge_calls
from ..dag.rules.order_rows import order_rows
from ..dag.rules.share_prefixes import share_prefixes
from .backends.local import LocalBackend
from .backends.placing import placement_for
from .known import make_known_calls_now
from .options import DEFAULT_WINDOW
from .oversized import Oversized, oversized
from .planning import first_models, kv_tokens, measure_of, merges, rules_off
from .profiles import profile_of
from .rehearsing import opened, rehearse_on
from .trials import tried_on

REHEARSED_TOKENS = 60_000
"""Tokens that a rehearsal generates at most: each of these bounds takes about a second."""
REHEARSED_PROMPTS = 400_000
"""Tokens in the prompts of the calls it makes at most."""
REHEARSED_CALLS = 20_000
"""Calls that it asks for at most, and rows."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A plan and, where the models are known, what it will cost."""

    plan: Plan
    cost: Cost | None = None
    oversized: Sequence[Oversized] = ()
    """Prompts that are too long for their models."""

    @property
    def left_out(self) -> int:
        """Rows with such prompts: neither the plan nor the cost is of them."""
        return len(_places(self.oversized))


def price(
    workflow: Workflow, rows: Collection[Row | None], models: Mapping[str, str], *,
    planned: bool = True, disable: Collection[str] = (), observe: Observer = unobserved,
    calibrate: bool = False, known: Estimates | None = None,
    window: int = DEFAULT_WINDOW, kv_memory: str | None = None, host_memory: str | None = None,
    memory: str | None = None, devices: Sequence[str] = (), device: str = "auto",
    dtype: str = "auto",
) -> Priced:  # fmt: skip
    """The plan, priced on these models; without models it is only counted. Rows with prompts that
    are too long for them fail when their turn comes: plan and price are those of the others.

    `planned` and `disable` are those of a run. `known` says how long answers are and how long tools
    take. With several `devices` the plan says which models stand on which, and the price is for all
    of them, by the costs of the first.
    """
    off = rules_off(planned, disable)
    made = make_known_calls_now([(workflow, len(rows))], off, known)
    if not models:
        return Priced(make_plan(workflow, rows, disable=off, observe=observe, known=made))
    device = devices[0] if devices else device
    sizes = {"kv_memory": kv_memory, "host_memory": host_memory or 0}
    with closing(LocalBackend(models, memory, device=device, dtype=dtype, **sizes)) as backend:
        return price_fitting(
            backend, workflow, rows, known or Estimates(), planned=planned, disable=disable,
            observe=observe, calibrate=calibrate, window=window, made=made, devices=devices,
        )  # fmt: skip


def price_fitting(
    backend: LocalBackend, workflow: Workflow, rows: Collection[Row | None], known: Estimates, *,
    planned: bool = True, disable: Collection[str] = (), observe: Observer = unobserved,
    calibrate: bool = False, window: int = DEFAULT_WINDOW, made: Known = NOTHING,
    devices: Sequence[str] = (), followed: Plan | None = None,
) -> Priced:  # fmt: skip
    """`price_on` for the rows without those that have prompts too long for the models of the
    backend. Where there are such, no plan is `followed`: that is of all rows."""
    found = oversized(workflow, rows, {alias: backend.llm(alias) for alias in workflow.models()})
    over = _places(found)
    fitting = [row for i, row in enumerate(rows) if i not in over] if over else rows
    if over and not fitting:
        off, names = rules_off(planned, disable), backend.aliases
        plan = make_plan(workflow, disable=off, observe=observe, known=made, names=names)
        return Priced(plan, None, found)
    priced = price_on(
        backend, workflow, fitting, known, planned=planned, disable=disable, observe=observe,
        calibrate=calibrate, window=window, made=made, devices=devices,
        followed=None if over else followed,
    )  # fmt: skip
    return replace(priced, cost=_named(priced.cost, fitting, over), oversized=found)


def _places(found: Sequence[Oversized]) -> frozenset[int]:
    """Of the rows with prompts that are too long."""
    return frozenset[int]().union(*(one.places for one in found))


def _named(cost: Cost | None, rows: Collection[Row | None], over: Set[int]) -> Cost | None:
    """The cost of rows that were given without those at some places: one without an id of its own
    is known by its place among all of them."""
    found = cost.rehearsed if cost is not None else None
    one = found.outgrown if found is not None else None
    if not over or cost is None or found is None or one is None:
        return cost
    row, place = next(
        islice(zip(rows, (i for i in count() if i not in over), strict=False), one.place, None)
    )
    one = replace(one, row=row_id(row or {}, place), place=place)
    return replace(cost, rehearsed=replace(found, outgrown=one))


def price_on(
    backend: LocalBackend, workflow: Workflow, rows: Collection[Row | None], known: Estimates, *,
    planned: bool = True, disable: Collection[str] = (), observe: Observer = unobserved,
    calibrate: bool = False, window: int = DEFAULT_WINDOW, disturbed: float = 1.0,
    made: Known = NOTHING, devices: Sequence[str] = (), followed: Plan | None = None,
) -> Priced:  # fmt: skip
    """The plan, priced on the models of a backend. `disturbed`: seconds that the engine takes for
    every second that costs say. `made`: tool calls that have been made already. `devices`: where
    several workers like this backend run. `followed`: a plan of these rows that has been followed,
    whose order is taken instead of trying orders again."""
    aliases = workflow.models()
    if aliases:
        backend.llm(first_models(workflow)[0])  # a run that plans has loaded it
    measure = measure_of(backend, aliases, rows) if aliases else None
    memory = kv_tokens(backend)
    off = rules_off(planned, disable)
    plan = make_plan(
        workflow, rows, disable=off, observe=observe, measure=measure, memory=memory, known=made,
        names=backend.aliases,
    )  # fmt: skip
    if workflow.live:
        return Priced(plan)
    profile = profile_of(backend, aliases, calibrate=calibrate, known=known)
    if followed is not None:
        if followed.trials is not None:
            taken = ordered(plan, positions(followed.parts[0]))
            plan = replace(taken, trials=followed.trials)
        plan = replace(plan, placement=followed.placement)
    elif len(devices) > 1 and planned and aliases:
        there = opened(backend, plan, len(devices))
        plan = replace(plan, placement=placement_for(plan, [backend], known, there))
    if followed is None:  # as a run does that has loaded its models
        plan = tried_on(backend, plan, rows, known, disable, window, devices)
    merging = planned and merges(disable)
    counting = _counting(off, merging)
    whole = counted(plan, workflow, rows, planned=planned, disable=disable)
    if whole is not plan and plan.trials is not None:  # what is rehearsed follows its order
        whole = ordered(whole, tuple(positions(plan.parts[0])))
    first = _part(workflow, rows, whole, profile, counting, made)
    placed = replace(first, placement=plan.placement)
    found = rehearse_on(
        backend, placed, [list(islice(rows, first.rows))], known, merging=merging, window=window,
        disturbed=disturbed, devices=devices,
    )  # fmt: skip
    return Priced(plan, cost_of(whole, profile, found, first))


def counted(
    plan: Plan, workflow: Workflow, rows: Collection[Row | None], *, planned: bool = True,
    disable: Collection[str] = (),
) -> Plan:  # fmt: skip
    """The plan that says what a run by this one does, for which it may have left out too much."""
    off = rules_off(planned, disable)
    counting = _counting(off, planned and merges(disable))
    if set(counting) == set(off):
        return plan
    return make_plan(
        workflow, rows, disable=counting, measure=plan.measure, memory=plan.memory,
        known={one.call.key: one for one in plan.called}, names=plan.names,
    )  # fmt: skip


def _counting(off: Collection[str], merging: bool) -> list[str]:
    """What is left out of a plan that says what a run without these rules does: tokens are known
    from the prefix tree, and merged calls from their classes, also where the run has none."""
    tree, merge = share_prefixes.__name__, merge_calls.__name__
    left = [name for name in off if name != tree and not (merging and name == merge)]
    return [*left, order_rows.__name__] if tree in off else left


def _part(
    workflow: Workflow, rows: Collection[Row | None], plan: Plan, profile: Profile,
    off: Collection[str], made: Known,
) -> Plan:  # fmt: skip
    """The plan of as many rows as there is time to rehearse."""
    assert plan.prefixes is not None
    calls = plan.calls()[0] + plan.calls(tools=True)[0]
    share = min(
        REHEARSED_TOKENS / max(1.0, cost_of(plan, profile).decode_tokens),
        REHEARSED_PROMPTS / max(1.0, plan.prefixes.requested),
        REHEARSED_CALLS / max(1, plan.rows, calls),
    )
    if share >= 1.0:
        return plan
    first: Sequence[Row | None] = list(islice(rows, max(1, int(plan.rows * share))))
    return make_plan(
        workflow, first, disable=off, measure=plan.measure, memory=plan.memory, known=made,
        names=plan.names,
    )  # fmt: skip
