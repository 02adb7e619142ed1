"""The order of a small batch's rows, and the placement of its models on several workers, tried in
virtual time on the models that it will run on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from ..dag.errors import first_line
from ..dag.estimates import Estimates
from ..dag.logical import Plan
from ..dag.numbering import Row
from ..dag.pricing import cost_of
from ..dag.rehearsal import Stage
from ..dag.trying import ROWS, may_try, tried
from .admission import BUSY
from .backends.backend import Backend
from .backends.local import LocalBackend
from .backends.placing import costs_of, held, others_for
from .backends.workers import Workers
from .options import DEFAULT_WINDOW, Options
from .planning import TRY_ORDERS, contents, merges
from .profiles import profile_of
from .rehearsed_model import RehearsedModel
from .rehearsing import empty, fleet_of, imagination_of, model_of, opened
from .row import RowIn
from .texts import sample_of

log = logging.getLogger("plait")
SHARE = 0.01
"""Of the seconds that a run is predicted to take, those that trying orders may."""


async def in_best_order(
    plan: Plan, rows: Sequence[RowIn], backend: Backend, options: Options
) -> Plan:
    """The plan of a run that is about to begin, its rows in the quickest order that was tried, and
    its models where that was quickest."""
    if plan.rows > ROWS or not isinstance(backend, LocalBackend | Workers):
        return plan
    given, known, off = contents(rows), options.known, options.disable
    return await asyncio.to_thread(tried_on, backend, plan, given, known, off, options.window)


def tried_on(
    backend: LocalBackend | Workers, plan: Plan, rows: Collection[Row | None], known: Estimates,
    disable: Collection[str] = (), window: int = DEFAULT_WINDOW, devices: Sequence[str] = (),
) -> Plan:  # fmt: skip
    """The same, of rows as they are. `devices`: where several workers like the backend will run.

    Only where one worker has all models of the plan, or workers load what is placed on them: what
    else a run loads, and when, weighs more than the order; and only where the run is long enough to
    be worth it. It is advice: what cannot be tried fails no run.
    """
    if TRY_ORDERS in disable or not may_try(plan, rows, known):
        return plan
    stage = Stage(window=window, busy=BUSY, merging=merges(disable))
    alone = _alone(backend, plan) if len(devices) < 2 else None
    try:
        if alone is not None:
            return _on_one(alone, plan, list(rows), known, stage)
        if isinstance(backend, Workers) or len(devices) > 1:
            return _on_workers(backend, plan, list(rows), known, stage, devices)
    except Exception as error:
        log.warning("orders of rows were not tried in virtual time: %s", first_line(error))
    return plan


def _alone(backend: Backend, plan: Plan) -> LocalBackend | None:
    """The worker that holds all models of a plan, if there is no other."""
    if isinstance(backend, Workers) and len(backend.workers) == 1:
        backend = backend.workers[0]
    if isinstance(backend, LocalBackend) and all(map(backend.has, plan.models)):
        return backend
    return None


def _on_one(
    worker: LocalBackend, plan: Plan, rows: Sequence[Row | None], known: Estimates, given: Stage
) -> Plan:
    llms = {alias: worker.llm(alias) for alias in plan.models}
    seconds = cost_of(plan, profile_of(worker, plan.models, known=known)).seconds
    texts = imagination_of(llms[plan.models[0]], sample_of(rows))

    def stage(_: Plan) -> Stage:
        return replace(given, models=empty(llms))

    return tried(plan, rows, known, stage, texts, seconds=seconds, share=SHARE)


def _on_workers(
    backend: LocalBackend | Workers, plan: Plan, rows: Sequence[Row | None], known: Estimates,
    given: Stage, devices: Sequence[str],
) -> Plan:  # fmt: skip
    """With placements that differ in kind. A model that is loaded nowhere is taken for one like
    those that are, at costs by its weights."""
    if isinstance(backend, Workers):
        workers, there = backend.workers, held(plan, backend.workers)
        devices = [worker.device for worker in workers]
        plan = backend.placed(plan, known) if plan.placement is None else plan
    else:
        workers, there = (backend,), opened(backend, plan, len(devices))
    shelf = workers[0].shelf()
    loaded = {a: llm for w in workers for a, llm in w.shelf().loaded.items() if a in plan.models}
    if plan.placement is None or not loaded:
        return plan
    costs, one = costs_of(plan.models, workers), next(iter(loaded.values()))
    texts = imagination_of(one, sample_of(rows))

    def fresh() -> dict[str, RehearsedModel]:
        names = {alias: shelf.name(alias) for alias in plan.models}
        models = {names[a]: model_of(loaded.get(a, one), costs[a]) for a in plan.models}
        return {alias: models[name] for alias, name in names.items()}

    def stage(plan: Plan) -> Stage:
        return fleet_of(plan, shelf, fresh, there, devices, texts, given)

    others = others_for(plan, workers, known, there)
    return tried(plan, rows, known, stage, texts, others, plan.placement.seconds, SHARE)
