"""The executor: runs a workflow for many rows on one event loop.

A bounded window of rows is under way at any time; a row that ends makes room for the next one at
once. Inside a row, `Program` starts each node when its values are there. LLM calls go to the
backend, tools run beside them; nothing here blocks the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ..dag.errors import InputError, LimitError, PlaitError, PromptError, first_line
from ..dag.live import gather
from ..dag.logical import Plan
from ..dag.messages import Message, Prompt
from ..dag.nodes import Agent, LLMCall, Loop, Map, Node, ToolCall, Workflow, resolve
from ..dag.template import Template
from ..dag.workflow import as_workflow
from ..tools.runner import run_tool
from .agent import run_agent
from .backends.backend import Backend, Call
from .generation import Generation
from .live import run_live
from .planning import RowIn as RowIn
from .planning import plan_for, sharings, unplanned
from .program import Program
from .run import Item, Row, RowState, Stats, row_id
from .sharing import Sharing
from .single_flight import fresh
from .values import decode, read_inputs
from .wiring import Wiring

DEFAULT_WINDOW = 256
PLANNED_INLINE = 1_000
"""Larger batches are planned in a thread, so that the event loop goes on."""
Admitted = tuple[int, int, RowIn]
"""(place in the input, rank in the order of starting, row)"""


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one run."""

    window: int = DEFAULT_WINDOW
    """Most rows under way at once."""
    seed: int = 0
    """From it, the row and the node, every sampled call without a seed derives its own."""
    plan: bool = True
    """Merge equal calls and order rows; without, every call of every row runs on its own."""
    disable: tuple[str, ...] = ()
    """Rules of the planner to leave out, by name."""


class Executor:
    """Runs one workflow over rows. `stats` may be read at any time; `stop` ends admission."""

    def __init__(
        self, workflow: Workflow, backend: Backend, options: Options | None = None
    ) -> None:
        self.workflow, self.backend = workflow, backend
        self.options = options or Options()
        self.stats = Stats()
        self.wiring = Wiring(workflow).prepare()
        self.plan: Plan | None = None
        """What is followed, once `run` has begun with rows it could look through."""
        self._sharing: Sharing | None = None
        self._order: Sequence[int] | None = None
        self._together = False
        self._wirings: dict[int, tuple[Any, Wiring]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Admit no further rows; those under way finish."""
        self._stopped = True

    # -- rows ----------------------------------------------------------------------------------

    async def run(self, rows: Iterable[RowIn]) -> AsyncIterator[Row]:
        """Results as rows finish. A row that could not be read may be given as its error."""
        finished: asyncio.Queue[Row] = asyncio.Queue()
        running: set[asyncio.Future[Any]] = set()
        await self.backend.open(self.workflow.models())
        self.stats.started = time.perf_counter()
        await self._make_plan(rows)
        source = self._in_order(rows)
        try:
            exhausted = not self._admit(source, running, finished)
            while running or not finished.empty():
                row = await finished.get()
                self.stats.row(row)
                if not exhausted:
                    exhausted = not self._admit(source, running, finished)
                yield row
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            if self._sharing is not None and not self._together:
                await self._sharing.flights.close()
            self.stats.ended = time.perf_counter()

    def follow(self, plan: Plan, part: int, sharing: Sharing) -> None:
        """Run as one part of a plan; `rows` must then be those it was made for."""
        planned = plan.parts[part]
        self.plan, self._sharing, self._order = plan, sharing, planned.order
        self._together = len(plan.parts) > 1
        if planned.workflow is not self.workflow:
            self.wiring = Wiring(planned.workflow).prepare()

    async def _make_plan(self, rows: Iterable[RowIn]) -> None:
        """Plan the rows, unless they come one by one or somebody has planned them already."""
        if not self.options.plan or self._sharing is not None:
            return
        disable = self.options.disable
        self._sharing = unplanned(self.workflow, disable)
        if isinstance(rows, list):
            batch = [(self.workflow, rows)]
            if len(rows) > PLANNED_INLINE:
                plan = await asyncio.to_thread(plan_for, batch, disable)
            else:
                plan = plan_for(batch, disable)
            self.follow(plan, 0, sharings(plan, disable)[0])
            self.stats.planning_seconds = time.perf_counter() - self.stats.started

    def _in_order(self, rows: Iterable[RowIn]) -> Iterator[Admitted]:
        """The rows in the order in which they start."""
        if self._order is None or not isinstance(rows, list):
            return ((place, place, row) for place, row in enumerate(rows))
        return ((place, rank, rows[place]) for rank, place in enumerate(self._order))

    def _admit(
        self, source: Iterator[Admitted], running: set[asyncio.Future[Any]],
        finished: asyncio.Queue[Row],
    ) -> bool:  # fmt: skip
        """Start rows until the window is full; False when there are no more."""
        while len(running) + finished.qsize() < self.options.window:
            if self._stopped:
                return False
            item = next(source, None)
            if item is None:
                return False
            self._start_row(*item, running, finished)
        return True

    def _start_row(
        self, place: int, rank: int, row: RowIn,
        running: set[asyncio.Future[Any]], finished: asyncio.Queue[Row],
    ) -> None:  # fmt: skip
        planned = place if self.plan is not None else -1
        if isinstance(row, Item):
            state, row = RowState(row.id, row.index, planned, rank), row.content
        else:
            id = place if isinstance(row, PlaitError) else row_id(row, place)
            state = RowState(id, place, planned, rank)
        try:
            if isinstance(row, PlaitError):
                raise row
            inputs = read_inputs(self.workflow.inputs, row)
        except PlaitError as error:
            self._row_ended(state)
            finished.put_nowait(state.finish(error=error))
            return
        task = asyncio.get_running_loop().create_task(self._run_row(inputs, state))
        running.add(task)
        self.stats.rows_running += 1

        def end(task: asyncio.Task[Row]) -> None:
            running.discard(task)
            self.stats.rows_running -= 1
            self._row_ended(state)
            if not task.cancelled():
                finished.put_nowait(task.result())

        task.add_done_callback(end)

    def _row_ended(self, state: RowState) -> None:
        if self._sharing is not None:
            self._sharing.row_ended(state)

    async def _run_row(self, inputs: dict[str, Any], state: RowState) -> Row:
        try:
            return state.finish(await self.run_body(self.wiring, inputs, state, ""))
        except PlaitError as error:
            return state.finish(error=error)

    async def call(self, inputs: Mapping[str, Any]) -> Any:
        """Run once with these inputs and return the output, or raise what went wrong."""
        values = read_inputs(self.workflow.inputs, inputs)
        if self.options.plan and self._sharing is None:
            self._sharing = unplanned(self.workflow, self.options.disable)
        return await self.run_body(self.wiring, values, RowState(0, 0), "")

    # -- bodies --------------------------------------------------------------------------------

    async def run_body(
        self, wiring: Wiring, inputs: dict[str, Any], row: RowState, path: str
    ) -> Any:
        """The output of one body; everything under way in it is cancelled with this call."""
        if wiring.workflow.live:
            return await run_live(self, wiring.workflow, inputs, row, path)
        program = Program(wiring, inputs, row, path, self._work).start()
        try:
            return await program.done
        finally:
            program.cancel()

    def wiring_of(self, target: Any) -> Wiring:
        """The wiring of an operator or workflow that a live program calls, prepared once."""
        known = self._wirings.get(id(target))
        if known is None:
            # The target is kept with its wiring, so that its id cannot be taken by another.
            known = self._wirings[id(target)] = (target, Wiring(as_workflow(target)).prepare())
        return known[1]

    # -- nodes ---------------------------------------------------------------------------------

    async def _work(self, program: Program, i: int) -> Any:
        """The value of a node that takes time, from another task that does the same if there is."""
        node = program.wiring.nodes[i]
        key = None
        if self._sharing is not None and program.wiring is self.wiring:
            key = self._sharing.planned(program.row, node)
        if key is None:
            return await self._do(program, node)
        assert self._sharing is not None
        name, start = program.path + node.id, time.perf_counter()
        value, own = await self._sharing.flights.join(key, name, lambda: self._do(program, node))
        if not own and isinstance(node, LLMCall | ToolCall):
            self.stats.task(node.id, node.operator, program.row, start, True, [], merged=True)
        return fresh(value)

    async def _do(self, program: Program, node: Node) -> Any:
        """The value of a node, worked out."""
        match node:
            case Agent():
                return await run_agent(self, program, node)
            case LLMCall():
                generations = await self.generate(program, node, self.prompt_of(program, node))
                return decode(node, generations)
            case ToolCall():
                return await self.call_tool(program, node)
            case Map():
                return await self._map(program, node)
            case Loop():
                return await self._loop(program, node)
        raise AssertionError(f"{node.operator} is not work")

    def prompt_of(self, program: Program, node: LLMCall) -> Prompt:
        """The rendered prompt of a call."""
        values = {name: resolve(arg, program.values) for name, arg in node.bound}
        if isinstance(node.prompt, Template):
            return node.prompt.render(values)
        try:
            prompt = node.prompt(**values)
        except BaseException as error:  # SystemExit would end the loop of every row
            what = f"the prompt body of {node.name!r} raised {type(error).__name__}"
            raise PromptError(f"{what}: {first_line(error)}") from error
        if isinstance(prompt, Message):
            return [prompt]
        if isinstance(prompt, list) and prompt and all(isinstance(m, Message) for m in prompt):
            return prompt
        if not isinstance(prompt, str):
            raise PromptError(f"the prompt body of {node.name!r} returned no text and no messages")
        return prompt

    async def generate(
        self, program: Program, node: LLMCall, prompt: Prompt, turn: int = 0,
        tools: tuple[Mapping[str, Any], ...] = (),
    ) -> list[Generation]:  # fmt: skip
        """One LLM call, counted under its node."""
        row, path = program.row, program.path + node.id
        sampling = program.wiring.samplings[node.id]
        seed = 0 if sampling.greedy else self._seed(row.id, path, turn)
        call = Call(
            prompt, sampling, node.model, seed, tools, -row.rank, path, str(row.id),
            still_wanted=self._lease(program, node),
        )  # fmt: skip
        start = time.perf_counter()
        generations: list[Generation] = []
        own = True
        try:
            generations, own = await self._generate(call)
            if own:
                row.add(generations)
            return generations
        finally:
            name, ok = _unnumbered(path), bool(generations)
            self.stats.task(name, node.operator, row, start, ok, generations, merged=not own)

    def _lease(self, program: Program, node: LLMCall) -> Callable[[], float] | None:
        if self._sharing is None or program.wiring is not self.wiring:
            return None
        values = {name: resolve(arg, program.values) for name, arg in node.bound}
        return self._sharing.lease(program.row, node, values)

    async def _generate(self, call: Call) -> tuple[list[Generation], bool]:
        """The call's generations, and whether it was run rather than merged with an equal one."""
        key = self._sharing.call_key(call) if self._sharing is not None else None
        if key is None:
            return await self.backend.generate(call), True
        assert self._sharing is not None
        flights = self._sharing.flights
        return await flights.join(key, call.node, lambda: self.backend.generate(call))

    def _seed(self, row: str | int, path: str, turn: int) -> int:
        key = f"{self.options.seed}\0{row}\0{path}\0{turn}".encode(errors="surrogatepass")
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "little") >> 1

    async def call_tool(self, program: Program, node: ToolCall) -> Any:
        """One tool call, counted under its node."""
        arguments = {name: resolve(arg, program.values) for name, arg in node.bound}
        return await self.timed_tool(program, node.id, node.tool.run, arguments)

    async def timed_tool(
        self, program: Program, id: str, tool: Any, arguments: Mapping[str, Any]
    ) -> Any:
        path, start, ok, own = program.path + id, time.perf_counter(), False, True
        try:
            value, own = await self._call_tool(tool, arguments, path)
            ok = True
            return value
        finally:
            name = _unnumbered(path)
            self.stats.task(name, "ToolCall", program.row, start, ok, [], merged=not own)

    async def _call_tool(
        self, tool: Any, arguments: Mapping[str, Any], path: str
    ) -> tuple[Any, bool]:
        """The tool's result, and whether it was run rather than merged with an equal call."""
        key = self._sharing.tool_key(tool, arguments) if self._sharing is not None else None
        if key is None:
            return await run_tool(tool, arguments, node=path), True
        assert self._sharing is not None
        flights = self._sharing.flights
        value, own = await flights.join(
            key[0], path, lambda: run_tool(tool, arguments, node=path), keep=key[1]
        )
        return fresh(value), own

    async def _map(self, program: Program, node: Map) -> list[Any]:
        items = resolve(node.over, program.values)
        if not isinstance(items, list | tuple):
            raise InputError(f"map goes over a list, not {type(items).__name__}")
        if len(items) > node.max_width:
            raise LimitError(f"{len(items)} items are over max_width={node.max_width}")
        shared = {name: resolve(arg, program.values) for name, arg in node.bound}
        wiring = program.wiring.bodies[node.id]
        return await gather(
            *(
                self._map_item(program, node, wiring, shared, k, item)
                for k, item in enumerate(items)
            )
        )

    async def _map_item(
        self, program: Program, node: Map, wiring: Wiring, shared: dict[str, Any], k: int, item: Any
    ) -> Any:
        inputs = read_inputs(wiring.workflow.inputs, {**shared, node.item: item})
        return await self.run_body(wiring, inputs, program.row, f"{program.path}{node.id}[{k}]/")

    async def _loop(self, program: Program, node: Loop) -> Any:
        state = resolve(node.state, program.values)
        body, until = program.wiring.bodies[node.id], None
        if node.until is not None:
            until = program.wiring.bodies[f"{node.id}:until"]
        for k in range(node.max_iters):
            path = f"{program.path}{node.id}[{k}]/"
            state = await self._step(body, state, program.row, path)
            if until is not None and await self._step(until, state, program.row, f"{path}until/"):
                break
        return state

    async def _step(self, wiring: Wiring, state: Any, row: RowState, path: str) -> Any:
        inputs = wiring.workflow.inputs
        name = next((i.id for i in inputs if i.default is ...), inputs[0].id)
        values = read_inputs(inputs, {name: state})
        return await self.run_body(wiring, values, row, path)


def _unnumbered(path: str) -> str:
    """A node's name in counters: `map[3]/look` is `map/look`, `look[3]/look` is `look`."""
    if "[" not in path:
        return path
    *bodies, node = path.split("/")
    names = [body.partition("[")[0] for body in bodies]
    return "/".join([*names[:-1], node] if names[-1] == node else [*names, node])
