"""The executor: runs a workflow for many rows on one event loop.

A bounded window of rows is under way at any time; a row that ends makes room for the next one at
once. Inside a row, `Program` starts each node when its values are there. LLM calls go to the
backend, tools run beside them; nothing here blocks the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ..dag.errors import InputError, LimitError, PlaitError, PromptError, first_line
from ..dag.live import gather
from ..dag.messages import Message, Prompt
from ..dag.nodes import Agent, LLMCall, Loop, Map, ToolCall, Workflow, resolve
from ..dag.template import Template
from ..dag.workflow import as_workflow
from ..tools.runner import run_tool
from .agent import run_agent
from .backends.backend import Backend, Call
from .generation import Generation
from .live import run_live
from .program import Program
from .run import Item, Row, RowState, Stats, row_id
from .values import decode, read_inputs
from .wiring import Wiring

DEFAULT_WINDOW = 256
RowIn = Mapping[str, Any] | PlaitError | Item


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one run."""

    window: int = DEFAULT_WINDOW
    """Most rows under way at once."""
    seed: int = 0
    """From it, the row and the node, every sampled call without a seed derives its own."""


class Executor:
    """Runs one workflow over rows. `stats` may be read at any time; `stop` ends admission."""

    def __init__(
        self, workflow: Workflow, backend: Backend, options: Options | None = None
    ) -> None:
        self.workflow, self.backend = workflow, backend
        self.options = options or Options()
        self.stats = Stats()
        self.wiring = Wiring(workflow).prepare()
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
        source = enumerate(rows)
        await self.backend.open(self.workflow.models())
        self.stats.started = time.perf_counter()
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
            self.stats.ended = time.perf_counter()

    def _admit(
        self, source: Iterator[tuple[int, Any]], running: set[asyncio.Future[Any]],
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
        self, index: int, row: RowIn,
        running: set[asyncio.Future[Any]], finished: asyncio.Queue[Row],
    ) -> None:  # fmt: skip
        if isinstance(row, Item):
            state, row = RowState(row.id, row.index), row.content
        else:
            id = index if isinstance(row, PlaitError) else row_id(row, index)
            state = RowState(id, index)
        try:
            if isinstance(row, PlaitError):
                raise row
            inputs = read_inputs(self.workflow.inputs, row)
        except PlaitError as error:
            finished.put_nowait(state.finish(error=error))
            return
        task = asyncio.get_running_loop().create_task(self._run_row(inputs, state))
        running.add(task)
        self.stats.rows_running += 1

        def end(task: asyncio.Task[Row]) -> None:
            running.discard(task)
            self.stats.rows_running -= 1
            if not task.cancelled():
                finished.put_nowait(task.result())

        task.add_done_callback(end)

    async def _run_row(self, inputs: dict[str, Any], state: RowState) -> Row:
        try:
            return state.finish(await self.run_body(self.wiring, inputs, state, ""))
        except PlaitError as error:
            return state.finish(error=error)

    async def call(self, inputs: Mapping[str, Any]) -> Any:
        """Run once with these inputs and return the output, or raise what went wrong."""
        values = read_inputs(self.workflow.inputs, inputs)
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
        """The value of a node that takes time."""
        node = program.wiring.nodes[i]
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
        except Exception as error:
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
        call = Call(prompt, sampling, node.model, seed, tools, -row.index, path, str(row.id))
        start = time.perf_counter()
        generations: list[Generation] = []
        try:
            generations = await self.backend.generate(call)
            row.add(generations)
            return generations
        finally:
            name = _unnumbered(path)
            self.stats.task(name, node.operator, row, start, bool(generations), generations)

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
        path, start, ok = program.path + id, time.perf_counter(), False
        try:
            value = await run_tool(tool, arguments, node=path)
            ok = True
            return value
        finally:
            self.stats.task(_unnumbered(path), "ToolCall", program.row, start, ok, [])

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
