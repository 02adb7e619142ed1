"""Operators that become many at run time: items of a map, rounds of a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dag.arg import resolve
from ..dag.errors import InputError, LimitError
from ..dag.live import gather
from ..dag.nodes import Loop, Map
from .program import Program
from .values import read_inputs
from .wiring import Wiring

if TYPE_CHECKING:
    from .executor import Executor


async def run_map(executor: Executor, program: Program, node: Map) -> list[Any]:
    """The body's values for every item, in their order; all items run at once."""
    items = resolve(node.over, program.values)
    if not isinstance(items, list | tuple):
        raise InputError(f"map goes over a list, not {type(items).__name__}")
    if len(items) > node.max_width:
        raise LimitError(f"{len(items)} items are over max_width={node.max_width}")
    shared = {name: resolve(arg, program.values) for name, arg in node.bound}
    wiring = program.wiring.bodies[node.id]

    async def run_item(k: int, item: Any) -> Any:
        inputs = read_inputs(wiring.workflow.inputs, {**shared, node.item: item})
        return await _run_body(executor, program, node, wiring, inputs, f"{node.id}[{k}]/")

    return await gather(*(run_item(k, item) for k, item in enumerate(items)))


async def run_loop(executor: Executor, program: Program, node: Loop) -> Any:
    """The state after the last round."""
    state = resolve(node.state, program.values)
    body, until = program.wiring.bodies[node.id], None
    if node.until is not None:
        until = program.wiring.bodies[f"{node.id}:until"]
    for k in range(node.max_iters):
        path = f"{node.id}[{k}]/"
        state = await _run_body(executor, program, node, body, _state(body, state), path)
        if until is not None:
            asked = _state(until, state)
            if await _run_body(executor, program, node, until, asked, f"{path}until/"):
                break
    return state


def _state(wiring: Wiring, state: Any) -> dict[str, Any]:
    """The state as the one input of a loop's body."""
    inputs = wiring.workflow.inputs
    name = next((i.id for i in inputs if i.default is ...), inputs[0].id)
    return read_inputs(inputs, {name: state})


async def _run_body(
    executor: Executor, program: Program, node: Map | Loop, wiring: Wiring,
    inputs: dict[str, Any], path: str,
) -> Any:  # fmt: skip
    behind = program.wiring.behind[node.id] + program.behind
    return await executor.run_body(wiring, inputs, program.row, program.path + path, behind)
