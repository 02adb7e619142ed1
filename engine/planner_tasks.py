"""Tasks that a model plans while a batch runs: written, checked, and run as a body of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dag.emitted import read_tasks
from ..dag.errors import GenerationError
from ..dag.nodes import PlanAndRun
from .llm_calls import generate, prompt_of
from .planning import planned_body
from .program import Program
from .values import validate

if TYPE_CHECKING:
    from .executor import Executor


async def run_planned(executor: Executor, program: Program, node: PlanAndRun) -> Any:
    """The answer of the tasks that the model plans. Their calls are those of any body: merged with
    equal ones, counted under their names, run in parallel as their arguments come in."""
    (said,) = await generate(executor, program, node, prompt_of(program, node))
    if said.finish_reason == "length":
        used = said.usage.completion_tokens
        raise GenerationError(f"max_tokens ended the plan after {used} tokens")
    written = read_tasks(said.text, node.name, node.offered, node.max_tasks)
    workflow = planned_body(written, executor.options.plan, executor.options.disable)
    behind = program.wiring.behind[node.id] + program.behind
    path = f"{program.path}{node.id}/"
    wiring = executor.wired(workflow)
    value = await executor.run_body(wiring, {}, program.row, path, behind)
    return validate(node.type, value, f"the answer of {node.name!r}")
