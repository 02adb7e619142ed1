"""Whole runs: one workflow over its rows, or several at once under one plan; and their plans."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..dag.logical import Plan
from ..dag.nodes import Workflow
from .backends.backend import Backend, Places
from .executor import Executor
from .forewarning import forewarn
from .known import make_known_calls
from .options import Options
from .planning import arranged, as_written, first_models, left, planned, sharings
from .row import RowIn
from .run import Run
from .trials import in_best_order

Batches = Sequence[tuple[Workflow, list[RowIn]]]
"""Workflows that run together, each with its rows."""


async def run_alone(
    workflow: Workflow, rows: list[RowIn], backend: Backend, options: Options
) -> Run:
    """One workflow over its rows; results in the rows' order."""
    executor = Executor(workflow, backend, options)
    return await _finish(executor, rows, None)


async def run_together(batches: Batches, backend: Backend, options: Options) -> list[Run]:
    """Several workflows at once; what they have in common is done once."""
    await backend.open(first_models(*(workflow for workflow, _ in batches)))
    start = time.perf_counter()
    plan = await arranged(await _planned(batches, backend, options), backend, options.known)
    shared = sharings(plan, options.disable)
    try:
        for workflow, rows in batches:
            await forewarn(workflow, rows, backend)
        executors = [Executor(workflow, backend, options) for workflow, _ in batches]
        for part, (executor, sharing) in enumerate(zip(executors, shared, strict=True)):
            executor.stats.started = start  # of the time of each, planning is a part
            executor.follow(plan, part, sharing)
            executor.stats.planning_seconds = time.perf_counter() - start
        work = (
            _finish(executor, rows, plan)
            for executor, (_, rows) in zip(executors, batches, strict=True)
        )
        return list(await asyncio.gather(*work))
    finally:
        left(plan, backend)
        if shared:
            await shared[0].flights.close()


async def explained(batches: Batches, backend: Backend, options: Options) -> Plan:
    """The plan that a run of these would follow, as far as it can be told before."""
    plan = await _planned(batches, backend, options)
    if isinstance(backend, Places):  # it may load torch, and searches
        plan = await asyncio.to_thread(backend.placed, plan, options.known)
    if len(batches) != 1:
        return plan
    return await in_best_order(plan, batches[0][1], backend, options)


async def _planned(batches: Batches, backend: Backend, options: Options) -> Plan:
    sizes = [(workflow, len(rows)) for workflow, rows in batches]
    known = await make_known_calls(sizes, options.disable, options.known)
    return await planned(batches, options.disable, known, backend)


async def _finish(executor: Executor, rows: list[RowIn], plan: Plan | None) -> Run:
    executor.stats.rows_total = len(rows)
    done = [row async for row in executor.run(rows)]
    done.sort(key=lambda row: row.index)
    plan = plan or executor.plan or await as_written(executor.workflow, rows)
    return Run(done, executor.stats, plan)
