"""The order of a small batch's rows, tried in virtual time on the models that it will run on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from ..dag.errors import first_line
from ..dag.estimates import Estimates
from ..dag.logical import Plan
from ..dag.numbering import Row
from ..dag.pricing import cost_of
from ..dag.rehearsal import Stage
from ..dag.trials import ROWS, may_try, tried
from .admission import BUSY
from .backends.backend import Backend
from .backends.local import LocalBackend
from .backends.workers import Workers
from .options import DEFAULT_WINDOW, Options
from .planning import TRY_ORDERS, contents, merges
from .profiles import profile_of
from .rehearsing import imagination_of, model_of
from .row import RowIn
from .texts import sample_of

log = logging.getLogger("plait")
SHARE = 0.01
"""Of the seconds that a run is predicted to take, those that trying orders may."""


async def in_best_order(
    plan: Plan, rows: Sequence[RowIn], backend: Backend, options: Options
) -> Plan:
    """The plan of a run that is about to begin, its rows in the quickest order that was tried."""
    if plan.rows > ROWS or _worker(backend, plan) is None:
        return plan
    held, known, off = contents(rows), options.known, options.disable
    return await asyncio.to_thread(tried_on, backend, plan, held, known, off, options.window)


def tried_on(
    backend: Backend, plan: Plan, rows: Collection[Row | None], known: Estimates,
    disable: Collection[str] = (), window: int = DEFAULT_WINDOW,
) -> Plan:  # fmt: skip
    """The same, of rows as they are.

    Only where one worker has all models of the plan: what else a run loads, and where, weighs more
    than the order; and only where the run is long enough to be worth it. It is advice: what cannot
    be tried fails no run.
    """
    worker = _worker(backend, plan)
    if worker is None or TRY_ORDERS in disable or not may_try(plan, rows, known):
        return plan
    llms = {alias: worker.llm(alias) for alias in plan.models}
    merging = merges(disable)

    def stage() -> Stage:
        empty = {id(llm): model_of(llm) for llm in llms.values()}
        models = {alias: empty[id(llm)] for alias, llm in llms.items()}
        return Stage(models, window=window, busy=BUSY, merging=merging)

    try:
        seconds = cost_of(plan, profile_of(worker, plan.models, known=known)).seconds
        texts = imagination_of(llms[plan.models[0]], sample_of(rows))
        return tried(plan, list(rows), known, stage, texts, SHARE * seconds)
    except Exception as error:
        log.warning("orders of rows were not tried in virtual time: %s", first_line(error))
        return plan


def _worker(backend: Backend, plan: Plan) -> LocalBackend | None:
    """The one that holds all models of a plan, if there is no other."""
    if isinstance(backend, Workers) and len(backend.workers) == 1:
        backend = backend.workers[0]
    if isinstance(backend, LocalBackend) and all(map(backend.has, plan.models)):
        return backend
    return None
