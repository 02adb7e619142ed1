"""`plan_and_run`: a model plans the tasks, and they run as a workflow of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, Unpack

from .arg import Args
from .emitted import Offered, schema_of_tasks
from .errors import WorkflowError
from .llm import OPTION_HINT, AgentOperator, LLMOperator, SamplingOptions
from .messages import Message, system
from .nodes import Node, PlanAndRun, ToolSpec
from .operators import Operator
from .source import Source, caller, problem_at
from .template import Template, Text
from .types import type_name

P = ParamSpec("P")
R = TypeVar("R")
MAX_TASKS = 1_000


class PlanOperator(AgentOperator[P, R]):
    """A prompt body for a planner, and what its tasks may call."""

    def __init__(
        self, fn: Callable[P, R], model: str, dynamic: bool, options: SamplingOptions,
        offered: Offered, max_tasks: int,
    ) -> None:  # fmt: skip
        super().__init__(fn, model, dynamic, options, _specs(offered), 1)
        self.offered, self.max_tasks = offered, max_tasks
        schema = schema_of_tasks(offered, max_tasks)
        self.sampling = replace(self.sampling, json_schema=schema)
        self.instructions = _instructions(offered, max_tasks)

    @property
    def prompt(self) -> Template | Callable[..., Any]:
        """The body's prompt behind the instructions for planners."""
        known = super().prompt
        if isinstance(known, Template):
            return Template((Text("system", (self.instructions,)), *known.messages))
        return lambda **values: [system(self.instructions), *_messages(known(**values))]

    def node(self, id: str, bound: Args, source: Source | None) -> Node:
        return PlanAndRun(
            id=id, name=self.name, prompt=self.prompt, bound=bound, sampling=self.sampling,
            model=self.model, type=self.signature.returns, source=source, tools=self.tools,
            max_turns=1, offered=self.offered, max_tasks=self.max_tasks,
        )  # fmt: skip


def plan_and_run(
    *, calls: Sequence[Any], max_tasks: int = 32, model: str = "default", dynamic: bool = False,
    **options: Unpack[SamplingOptions],
) -> Callable[[Callable[P, R]], PlanOperator[P, R]]:  # fmt: skip
    """Make a function a planner: the model answers its prompt with tasks, calls of the operators in
    `calls`, which run as soon as what they need is there. The result is the answer it names.

    `calls` are `@tool`, `@llm` and `@agent` functions. A plan that calls something else, gives
    wrong arguments, or has tasks that wait for each other fails its row with OutputError; one of
    more than `max_tasks` tasks with LimitError. Raises WorkflowError for options that cannot be.
    """
    if not 1 <= max_tasks <= MAX_TASKS:
        message = f"max_tasks={max_tasks} is out of range: 1 to {MAX_TASKS}"
        raise WorkflowError(problem_at(caller(), message, OPTION_HINT))
    for call in calls:
        if not isinstance(call, Operator):
            hint = "give @tool, @llm and @agent functions"
            raise WorkflowError(problem_at(caller(), f"{call!r} cannot be planned", hint))
    offered = {call.name: call for call in calls}
    if len(offered) < len(calls) or not offered:
        message = "plan_and_run needs calls, each with a name of its own"
        hint = "give calls=[...]; @tool(name=...) names a tool anew"
        raise WorkflowError(problem_at(caller(), message, hint))
    return lambda body: PlanOperator(body, model, dynamic, options, offered, max_tasks)


def _specs(offered: Offered) -> tuple[ToolSpec, ...]:
    """Every tool that a plan may come to call."""
    found: list[ToolSpec] = []
    for operator in offered.values():
        if isinstance(operator, AgentOperator):
            found += operator.tools
        elif not isinstance(operator, LLMOperator):
            found.append(operator.spec)  # type: ignore[attr-defined]
    return tuple(found)


def _instructions(offered: Offered, max_tasks: int) -> str:
    lines = [
        "Plan the work as JSON and write nothing else:",
        '{"tasks": [{"call": NAME, "args": {...}}, ...], "answer": "#2"}',
        'Tasks are numbered from 1. "#1" stands for the result of task 1, "#1.name" for a part of',
        f"it, in args and in the answer. At most {max_tasks} tasks. Calls:",
    ]
    for name, operator in offered.items():
        types = operator.signature.types.items()
        given = ", ".join(f"{n}: {type_name(kind)}" for n, kind in types)
        says = (operator.__doc__ or "").strip().partition("\n")[0]
        lines.append(f"- {name}({given})" + (f": {says}" if says else ""))
    return "\n".join(lines)


def _messages(prompt: Any) -> list[Message]:
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    return [prompt] if isinstance(prompt, Message) else list(prompt)
