"""A plan's placement on the workers there are.

What work costs is known of models that are loaded somewhere; the others are taken to cost as much
more or less as their weights are larger or smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...dag.estimates import Estimates
from ...dag.logical import Plan
from ...dag.placement import Config, Demand, Placement
from ...dag.placement_demand import Machine, demand_of
from ...dag.placement_search import place
from ...dag.placements import others
from ...dag.profile import Profile
from ..llm.costs import Costs
from .local import LocalBackend


def placement_for(
    plan: Plan, backends: Sequence[LocalBackend], known: Estimates | None = None,
    there: Config | None = None,
) -> Placement | None:  # fmt: skip
    """The placement of a plan's models; None when nothing is known to place them by, or one of them
    fits nowhere.

    `known` says how long answers are. `there`: workers like the first backend, which only tells the
    costs, and what each holds; else these backends, with what they hold now.
    """
    there = there or held(plan, backends)
    demand = _demand(plan, backends, known, len(there))
    try:
        return place(demand, there) if demand is not None else None
    except ValueError:  # its calls will say so, with what to do
        return None


def others_for(
    plan: Plan, backends: Sequence[LocalBackend], known: Estimates | None = None,
    there: Config | None = None,
) -> tuple[Placement, ...]:  # fmt: skip
    """Placements that differ in kind from that of a plan."""
    there = there or held(plan, backends)
    demand = _demand(plan, backends, known, len(there))
    return others(plan.placement, demand, there) if demand and plan.placement else ()


def held(plan: Plan, backends: Sequence[LocalBackend]) -> Config:
    """What backends hold now of a plan's models."""
    shelves = [backend.shelf() for backend in backends]
    wanted = frozenset(map(shelves[0].name, plan.models))
    return tuple(wanted.intersection(map(shelf.name, shelf.loaded)) for shelf in shelves)


def _demand(
    plan: Plan, backends: Sequence[LocalBackend], known: Estimates | None, workers: int
) -> Demand | None:
    shelf = backends[0].shelf()
    names = {alias: shelf.name(alias) for alias in plan.models}
    machine = Machine(workers, shelf.limit, shelf.sizes(), names)
    profile = Profile(costs_of(plan.models, backends), estimates=known or Estimates())
    return demand_of(plan, profile, machine)


def costs_of(aliases: Sequence[str], backends: Sequence[LocalBackend]) -> dict[str, Costs]:
    """What models cost by alias, loads as measured, whether or not they are loaded anywhere."""
    known: dict[str, Costs] = {}
    for backend in backends:
        seconds = backend.shelf().seconds()
        for alias, costs in backend.costs().items():
            load = seconds[backend.shelf().name(alias)]
            known[alias] = replace(costs, load=load) if load else costs
    weights = {a: backends[0].weights(a) for a in {*aliases, *known}}
    base = next(iter(known), min(aliases, key=weights.__getitem__, default=""))
    return {a: known.get(a) or _scaled(known.get(base, Costs()), weights[a], weights[base])
            for a in aliases}  # fmt: skip


def _scaled(costs: Costs, weights: int, others: int) -> Costs:
    """The costs of a model by those of another, as their weights are to each other."""
    by = weights / others if weights and others else 1.0
    return replace(
        costs, step=costs.step * by, token=costs.token * by, decode_row=costs.decode_row * by,
        token_context=costs.token_context * by, kv_token=costs.kv_token * by, load=costs.load * by,
    )  # fmt: skip
