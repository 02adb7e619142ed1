"""The executor: runs a workflow for many rows on one event loop.

Rows come in through `Admission`. Inside a row, `Program` starts each node when its values are
there. LLM calls go to the backend, tools run beside them; nothing here blocks the loop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from ..dag.ahead import Ahead
from ..dag.errors import PlaitError
from ..dag.logical import Plan
from ..dag.nodes import Agent, LLMCall, Loop, Map, Node, PlanAndRun, ToolCall, Workflow
from ..dag.rules.split_prefill import split_prefill
from ..dag.workflow import as_workflow
from .admission import Admission, Entry, entries
from .agent import run_agent
from .backends.backend import Backend, names_of
from .expansion import run_loop, run_map
from .forewarning import forewarn
from .heads import Heads
from .hoisting import Hoisting
from .known import count, make_known_calls
from .lengths import Lengths
from .live import run_live
from .llm_calls import run_llm_call
from .options import Options
from .planner_tasks import run_planned
from .planning import arranged, first_models, left, planned, sharings, unplanned
from .program import Program
from .row import Row, RowIn, RowState
from .run import Stats
from .sharing import Sharing
from .tool_calls import run_tool_call
from .trials import in_best_order
from .values import read_inputs
from .waits import Waits
from .wiring import Wiring


class Executor:
    """Runs one workflow over rows. `stats` may be read at any time; `stop` ends admission."""

    def __init__(
        self, workflow: Workflow, backend: Backend, options: Options | None = None
    ) -> None:
        self.workflow, self.backend = workflow, backend
        self.options = options or Options()
        self.stats = Stats()
        self.lengths = Lengths(self.stats, self.options.known)
        self.wiring = self.wired(workflow)
        self.plan: Plan | None = None
        """What is followed, once `run` has begun with rows it could look through."""
        self.sharing: Sharing | None = None
        """What tasks share; None when every call runs on its own."""
        self.waits = Waits(backend)
        """What rows wait for."""
        wanted = self.options.plan and split_prefill.__name__ not in self.options.disable
        self.heads = Heads(backend, self.stats, wanted, self.options.salt)
        self.names = names_of(backend)
        """Which aliases are one model."""
        self.hoisting: Hoisting | None = None
        """Tool calls ahead of their rows, where the plan has some."""
        self._order: Sequence[int] | None = None
        self._planned_here = False
        self._wirings: dict[int, tuple[Any, Wiring]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Admit no further rows; those under way finish."""
        self._stopped = True
        if self.waits.admission is not None:
            self.waits.admission.stop()

    # -- rows ----------------------------------------------------------------------------------

    async def run(self, rows: Iterable[RowIn]) -> AsyncIterator[Row]:
        """Results as rows finish. A row that could not be read may be given as its error."""
        await self.backend.open(first_models(self.workflow))
        if self.plan is None:  # else it has begun with a plan for several
            self.stats.started = time.perf_counter()
        await self._make_plan(rows)
        source = iter(()) if self._stopped else entries(rows, self._order)
        admission = self.waits.admission = Admission(source, self.options.window, self._begin)
        if any(isinstance(n, ToolCall) and n.ahead for n in self.wiring.nodes):
            self.hoisting = Hoisting(self, entries(rows, self._order))
        try:
            async for row in admission.rows():
                self.stats.row(row)
                yield row
        finally:
            await admission.close()
            if self.hoisting is not None:
                await self.hoisting.close()
            if self.sharing is not None and self._planned_here:
                if self.plan is not None:
                    left(self.plan, self.backend)
                await self.sharing.flights.close()
            self.stats.ended = time.perf_counter()

    def follow(self, plan: Plan, part: int, sharing: Sharing) -> None:
        """Run as one part of a plan; `rows` must then be those it was made for."""
        planned = plan.parts[part]
        self.plan, self.sharing, self._order = plan, sharing, planned.order
        count(self.stats, (made for made in plan.called if made.call.part == part))
        self.waits.ahead = Ahead(planned.workflow) if len(plan.models) > 1 else None
        if planned.workflow is not self.workflow:
            self.wiring = self.wired(planned.workflow)
        if sharing.expanded is not None:
            sharing.expanded.expect(self._maps(), planned.rows)

    def _maps(self) -> list[Wiring]:
        """Bodies that a row expands once."""
        bodies = self.wiring.bodies
        return [bodies[n.id] for n in self.wiring.nodes if isinstance(n, Map)]

    async def _make_plan(self, rows: Iterable[RowIn]) -> None:
        """Plan the rows, unless they come one by one or somebody has planned them already."""
        if not self.options.plan or self.sharing is not None:
            return
        disable, expected = self.options.disable, self.options.known
        self.sharing, self._planned_here = unplanned(self.workflow, disable), True
        if isinstance(rows, list):
            known = await make_known_calls([(self.workflow, len(rows))], disable, expected)
            plan = await planned([(self.workflow, rows)], disable, known, self.backend)
            plan = await in_best_order(plan, rows, self.backend, self.options)
            plan = await arranged(plan, self.backend, expected)
            try:
                await forewarn(self.workflow, rows, self.backend)
            except BaseException:  # the run was given up
                left(plan, self.backend)
                raise
            self.follow(plan, 0, sharings(plan, disable)[0])
            self.stats.planning_seconds = time.perf_counter() - self.stats.started

    def _begin(self, entry: Entry) -> Row | Coroutine[Any, Any, Row]:
        """The work of a row; its result when it cannot be run."""
        state = entry.state(planned=self.plan is not None)
        try:
            inputs = self._inputs_of(entry)
        except PlaitError as error:
            self._row_ended(state)
            return state.finish(error=error)
        if self.hoisting is not None:
            self.hoisting.row_begins(state, inputs)
        return self._run_row(inputs, state)

    def row_of(self, entry: Entry) -> tuple[RowState, dict[str, Any]]:
        """A row that may begin later, and its inputs; raises what is wrong with it."""
        return entry.state(planned=self.plan is not None), self._inputs_of(entry)

    def _inputs_of(self, entry: Entry) -> dict[str, Any]:
        return read_inputs(self.workflow.inputs, entry.content())

    async def _run_row(self, inputs: dict[str, Any], state: RowState) -> Row:
        self.stats.rows_running += 1
        try:
            return state.finish(await self.run_body(self.wiring, inputs, state, ""))
        except PlaitError as error:
            return state.finish(error=error)
        finally:
            self.stats.rows_running -= 1
            self._row_ended(state)

    def _row_ended(self, state: RowState) -> None:
        if self.sharing is not None:
            self.sharing.row_ended(state)
            if self.sharing.expanded is not None:
                self.sharing.expanded.passed(self._maps(), state)
        if self.hoisting is not None:
            self.hoisting.row_ended(state)

    async def call(self, inputs: Mapping[str, Any]) -> Any:
        """Run once with these inputs and return the output, or raise what went wrong."""
        values = read_inputs(self.workflow.inputs, inputs)
        if self.options.plan and self.sharing is None:
            self.sharing = unplanned(self.workflow, self.options.disable)
        return await self.run_body(self.wiring, values, RowState(0, 0), "")

    # -- bodies --------------------------------------------------------------------------------

    async def run_body(
        self, wiring: Wiring, inputs: dict[str, Any], row: RowState, path: str, behind: float = 0.0
    ) -> Any:
        """The output of one body; everything under way in it is cancelled with this call.

        `behind` is the length of the longest chain of work that comes after it; see `Wiring`.
        """
        if wiring.workflow.live:
            return await run_live(self, wiring.workflow, inputs, row, path)
        warm = self.heads.warm if wiring.splits and self.heads.possible else None
        expanded = self.sharing.expanded if self.sharing is not None else None
        body = None
        if expanded is not None and wiring is not self.wiring:
            body = expanded.body(wiring, inputs, row)
        program = Program(wiring, inputs, row, path, self._work, behind, warm, body).start()
        try:
            return await program.done
        finally:
            program.cancel()

    def wiring_of(self, target: Any) -> Wiring:
        """The wiring of an operator or workflow that a live program calls, prepared once."""
        known = self._wirings.get(id(target))
        if known is None:
            # The target is kept with its wiring, so that its id cannot be taken by another.
            known = self._wirings[id(target)] = (target, self.wired(as_workflow(target)))
        return known[1]

    def wired(self, workflow: Workflow) -> Wiring:
        """The wiring of a workflow of this run, prepared, by what is known by now."""
        return Wiring(workflow, self.lengths.known).prepare()

    # -- nodes ---------------------------------------------------------------------------------

    async def _work(self, program: Program, i: int) -> Any:
        """The value of a node that takes time, from another task that does the same if there is."""
        node = program.wiring.nodes[i]
        key = None
        if self.sharing is not None and program.wiring is self.wiring:
            key = self.sharing.planned(program.row, node)
        if key is None:
            return await self._do(program, node)
        assert self.sharing is not None
        name, start, row = program.path + node.id, time.perf_counter(), program.row
        flights = self.sharing.flights
        waits = flights.under_way(key)  # for another row's work
        if waits:
            self.waits.wait_begins(row, parked=True)
        try:
            value, own = await flights.copy(key, name, lambda: self._do(program, node), wanted=True)
        finally:
            if waits:
                self.waits.wait_ends(row, parked=True)
        if not own and isinstance(node, LLMCall | ToolCall):
            self.stats.task(node.id, node.operator, row, start, True, [], merged=True)
        return value

    async def _do(self, program: Program, node: Node) -> Any:
        """The value of a node, worked out."""
        match node:
            case PlanAndRun():
                return await run_planned(self, program, node)
            case Agent():
                return await run_agent(self, program, node)
            case LLMCall():
                return await run_llm_call(self, program, node)
            case ToolCall():
                return await run_tool_call(self, program, node)
            case Map():
                return await run_map(self, program, node)
            case Loop():
                return await run_loop(self, program, node)
        raise AssertionError(f"{node.operator} is not work")
