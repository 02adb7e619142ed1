"""LLM calls of a run: rendered, merged with equal ones, sent to the backend, and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ..dag.arg import resolve
from ..dag.errors import PromptError, first_line
from ..dag.messages import Message, Prompt
from ..dag.nodes import LLMCall
from ..dag.template import Template
from .backends.backend import Call
from .generation import Generation
from .program import Program
from .row import RowState
from .run import unnumbered
from .values import decode

if TYPE_CHECKING:
    from .conversation import Talk
    from .executor import Executor


async def run_llm_call(executor: Executor, program: Program, node: LLMCall) -> Any:
    """The value of an LLM node."""
    return decode(node, await generate(executor, program, node, prompt_of(program, node)))


def prompt_of(program: Program, node: LLMCall) -> Prompt:
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
    executor: Executor, program: Program, node: LLMCall, prompt: Prompt, turn: int = 0,
    tools: tuple[Mapping[str, Any], ...] = (), talk: Talk | None = None,
) -> list[Generation]:  # fmt: skip
    """One LLM call, counted under its node; with `talk`, a turn of it."""
    row, path = program.row, program.path + node.id
    name = unnumbered(path)
    sampling = program.wiring.samplings[node.id]
    seed = 0 if sampling.greedy else _seed(executor.options.seed, row.id, path, turn)
    priority = priority_of(executor, program, node)
    if talk is None:
        wanted, last = lease(executor, program, node), None
    else:
        wanted, last = talk.wanted, talk.last
    takers: list[int] = []
    call = Call(
        prompt, sampling, node.model, seed, tools, priority, path, str(row.id),
        salt=executor.options.salt,
        ahead=executor.waits.ahead, expected=executor.lengths.expected(name, node),
        waits=partial(executor.waits.model_missing, row), taken=takers.append,
        still_wanted=wanted, last=last,
    )  # fmt: skip
    start = time.perf_counter()
    generations: list[Generation] = []
    own = True
    head = program.take_head(node.id)
    try:
        generations, own = await _merged(executor, call, row)
        if own:
            row.add(generations)
        return generations
    finally:
        if head is not None:
            head.release()
        ok = bool(generations)
        executor.stats.task(
            name, node.operator, row, start, ok, generations, merged=not own,
            model=node.model, worker=takers[-1] if takers else None,
        )  # fmt: skip
        executor.lengths.counted(name, executor.wiring)


def priority_of(executor: Executor, program: Program, node: LLMCall) -> float:
    """Rows as they began, those of other runs too; within a row first what has the longest chain
    of work before it: the share of the row's longest chain that is left, in 0 to 1.

    So a call waits for none that comes later of a row that began later. Ageing is the scheduler's.
    """
    left = program.wiring.ahead[node.id] + program.behind
    return min(1.0, left / (executor.wiring.length or 1.0)) - program.row.number


def lease(executor: Executor, program: Program, node: LLMCall) -> Callable[[], float] | None:
    """To be called when the call has ended: the share of its prompt that is still wanted."""
    sharing, own = executor.sharing, program.wiring is executor.wiring
    if sharing is None or (not own and program.body is None):
        return None
    values = {name: resolve(arg, program.values) for name, arg in node.bound}
    if program.body is not None:
        return program.body.lease(node, values)
    return sharing.lease(program.row, node, values)


async def _merged(executor: Executor, call: Call, row: RowState) -> tuple[list[Generation], bool]:
    """The call's generations, and whether it was run rather than merged with an equal one."""
    sharing, backend = executor.sharing, executor.backend
    key = sharing.call_key(call, executor.names) if sharing is not None else None
    if sharing is not None and key is not None and sharing.flights.under_way(key):
        executor.waits.wait_begins(row, parked=True)
        try:
            return await sharing.flights.join(key, call.node, lambda: backend.generate(call))
        finally:
            executor.waits.wait_ends(row, parked=True)
    executor.waits.call_begins(row)
    try:
        if sharing is None or key is None:
            return await backend.generate(call), True
        return await sharing.flights.join(key, call.node, lambda: backend.generate(call))
    finally:
        executor.waits.call_ends(row)


def _seed(run: int, row: str | int, path: str, turn: int) -> int:
    key = f"{run}\0{row}\0{path}\0{turn}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little") >> 1
