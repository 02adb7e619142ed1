"""A batch: one workflow over the rows of a file, with results in a run's directory.

Rows go through the executor; what comes out is written at once. Nothing is kept of a finished row
but its counters. `stop` lets what is under way finish, `abort` does not.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal, cast

from ..dag.logical import Plan
from ..dag.nodes import Workflow
from ..dag.profile import Costs
from .aside import Looked, aside, explaining
from .bridge import cancel
from .engine import Engine
from .executor import Executor
from .history import expected, learn
from .options import Options
from .plan_file import follow_plan
from .predicted import expectation, prediction
from .priced import Priced
from .results import Id, Results, reorder
from .row import Row
from .rows import Rows
from .run import Stats
from .rundir import RunDir, write_text
from .settings import Settings
from .trace import trace_json
from .watch import INTERVAL, Watch, Watchable

TICK = 0.25
"""Seconds between snapshots for the progress display; every second one also syncs to disk."""
EXPLAINED = 5.0
"""Seconds that a run waits at its end for what only explains it, or a tenth of its own if more."""
Reason = Literal["interrupted", "max_errors", "output"]
"""Why no further rows were admitted: a signal, too many failed rows, results cannot be written."""


class Batch:
    """One run of a batch, from its first row to its last or to the point where it stops."""

    def __init__(
        self, workflow: Workflow, rows: Rows, results: Results, run: RunDir, config: dict[str, Any],
        settings: Settings, engine: Engine, before: Mapping[Id, str],
    ) -> None:  # fmt: skip
        self.workflow, self.rows, self.run, self.config = workflow, rows, run, config
        self.settings, self.engine = settings, engine
        self.before = before
        """Status of the rows that an earlier start has finished."""
        self.stopped: Reason | None = None
        self.write_error: str | None = None
        """Why results could not be written any more."""
        self._results = results
        self._executor = Executor(
            workflow, engine.backend,
            Options(settings.max_rows, settings.seed, settings.plan, tuple(settings.disable),
                    expected(workflow, config["sessions"][-1])),
        )  # fmt: skip
        self._todo = sum(id not in before for id in rows.lines)
        self._executor.stats.rows_total = self._todo
        self._allowed = settings.errors_allowed(len(rows))
        self._task: asyncio.Task[None] | None = None
        self._explaining: asyncio.Task[None] | None = None
        backend = engine.backend
        self._watched = backend if isinstance(backend, Watchable) else None
        self._watch = Watch(self._watched.counters() if self._watched else None)
        self._costs: dict[str, Costs] = {}
        """Of the models that have been loaded."""

    @property
    def plan(self) -> Plan | None:
        """What is followed, once the first row has begun."""
        return self._executor.plan

    @property
    def stats(self) -> Stats:
        """Counters of this start; `rows_total` are the rows left to run when it began."""
        return self._executor.stats

    @property
    def complete(self) -> bool:
        """Whether every row of the input has its result."""
        return self.stats.rows_done == self._todo

    @property
    def failed(self) -> int:
        """Failed rows of this start and those before it."""
        return self.stats.rows_failed + sum(s != "ok" for s in self.before.values())

    def stop(self, reason: Reason) -> None:
        """Admit no further rows; those under way finish. What only explains the run is left out."""
        self.stopped = self.stopped or reason
        self._executor.stop()
        cancel(self._explaining)

    def abort(self) -> None:
        """Cancel what is under way. To be called in the thread that runs the batch."""
        self.stop("interrupted")
        self.stopped = "interrupted"
        cancel(self._task)

    async def execute(self, tick: Callable[[], None] = lambda: None) -> None:
        """Run the rows that have no result yet and write what comes of them.

        Raises UserError kinds for what concerns the whole run. However it ends, what is finished
        is on disk.
        """
        ticking = asyncio.gather(self._tick(tick), self._look())
        # Tasks of their own: `stop` and `abort` end them, not us.
        self._task = asyncio.create_task(self._drain())
        try:
            await self._until(self._task)
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            self.finish()
        if self.complete and self.stopped != "interrupted":
            self._explaining = asyncio.create_task(self._expect())
            await self._until(self._explaining)

    async def _until(self, task: asyncio.Task[None]) -> None:
        """Wait for a task, which a stop may cancel."""
        try:
            await task
        except asyncio.CancelledError:
            if self.stopped is None:
                raise

    async def _drain(self) -> None:
        items = self.rows.items(without=self.before)
        # A plan looks through all rows before the first one starts.
        running = self._executor.run(list(items) if self.settings.plan else items)
        async with aclosing(cast("AsyncGenerator[Row, None]", running)) as rows:
            async for row in rows:
                try:
                    if self._results.waits:
                        await asyncio.to_thread(self._results.write, row)
                    else:
                        self._results.write(row)
                except OSError as error:
                    self._cannot_write(error)
                    return
                if row.error is not None and self.stats.rows_failed > self._allowed:
                    self.stop("max_errors")

    async def _tick(self, tick: Callable[[], None]) -> None:
        odd = False
        while True:
            await asyncio.sleep(TICK)
            tick()
            odd = not odd
            if odd:
                try:
                    await asyncio.to_thread(self._results.sync)
                except OSError as error:
                    self._cannot_write(error)

    async def _look(self) -> None:
        while self._watched is not None:
            self._look_at(self._watched)
            await asyncio.sleep(INTERVAL)

    def _look_at(self, watched: Watchable) -> None:
        self._watch.look(time.perf_counter(), watched.counters())
        self._costs |= watched.costs()

    def _cannot_write(self, error: OSError) -> None:
        self.write_error = error.strerror or str(error)
        self.stop("output")

    def finish(self) -> None:
        """Put everything on disk: results, counters, timeline; what of it the disk still takes."""
        for put in (self._results.close, self._note):
            try:
                put()
            except OSError as error:
                self._cannot_write(error)
        with explaining():
            self._put_plan()

    def _note(self) -> None:
        if self.settings.keep_order and not self._results.copied:
            reorder(self.run.out, {id: i for i, id in enumerate(self.rows.lines)})
        session = self.config["sessions"][-1]
        session |= {"status": self.status, "ended": now(), "stats": self.stats.as_json()}
        session["backend"] = self.engine.backend.describe()
        if self._watched is not None:
            self._look_at(self._watched)
            session["engine"], session["pages"] = self._watch.work(), self._watch.pages()
            session["predicted"] = self._prediction(session["stats"], self.plan)
        self.run.write(self.config)
        learn(self.run.path, self.workflow, session["stats"], self.settings.models)
        samples, devices = self._watch.samples, self.settings.devices
        engines = self.settings.engines()
        loads = self._watched.loads() if self._watched is not None else ()
        text = trace_json(self.stats, self.workflow, samples, devices, engines, loads)
        write_text(self.run.trace, text)

    def _put_plan(self) -> None:
        if self.plan is not None:
            follow_plan(self.plan, self.rows, self.run)

    async def _expect(self) -> None:
        """Put beside what all starts have done what was expected when the first one began."""
        sessions, rows = self.config["sessions"], cast("Collection[Any]", self.rows)
        known, backend = expected(self.workflow, sessions[0]), self.engine.backend

        failed = self.failed > 0

        def look(given_up: threading.Event) -> Priced | None:
            seen, plan = Looked(rows, given_up), self.plan
            return expectation(backend, self.workflow, seen, known, self.settings, plan, failed)

        with explaining():
            priced = await aside(look, max(EXPLAINED, self.stats.seconds / 10))
            if priced is not None:
                self._put_expected(priced)

    def _put_expected(self, priced: Priced) -> None:
        """Note what was expected: of rows with prompts that are too long, nothing."""
        sessions = self.config["sessions"]
        session = sessions[-1]
        if priced.cost is not None:
            session["cost"] = priced.cost.as_dict()
        if priced.left_out:
            session["left_out"] = priced.left_out
            if session.get("predicted") is not None and len(sessions) == 1:
                plan = priced.plan if priced.cost is not None else None
                session["predicted"] = self._prediction(session["stats"], plan)
        self.run.write(self.config)

    def _prediction(self, stats: Mapping[str, Any], plan: Plan | None) -> dict[str, Any] | None:
        """What the cost model says of the plan, beside what was measured; None without either."""
        if plan is None:
            return None
        known = expected(self.workflow, self.config["sessions"][-1])
        work = self._watch.work_by_alias()
        together, engines = self.settings.memory is None, self.settings.engines()
        return prediction(plan, self._costs, stats, work, engines, known, together)

    def discard(self) -> None:
        """Take the directory away again, unless it holds results or earlier starts."""
        if len(self.config["sessions"]) == 1 and not self.run.out.stat().st_size:
            self.run.remove()

    @property
    def status(self) -> str:
        return "complete" if self.complete else self.stopped or "failed"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
