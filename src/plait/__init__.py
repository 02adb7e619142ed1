"""plait: agentic workflows as query plans, run on your own GPUs.

    import plait

    @plait.llm(max_tokens=64)
    def answer(question: str) -> str:
        return f"Answer in one line: {question}"

    with plait.Engine(model="demo") as engine:
        print(engine.call(answer, question="What is 12 * 4?"))

Names are imported at their first use, so that `import plait` is quick and never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .dag.shown import paint_with

if TYPE_CHECKING:
    from .dag.control import loop, when
    from .dag.control import map_ as map  # noqa: A004
    from .dag.errors import (
        ConfigError,
        EngineError,
        GenerationError,
        InputError,
        LimitError,
        ModelError,
        OutputError,
        PlaitError,
        Problem,
        PromptError,
        RowError,
        ToolError,
        ToolTimeout,
        UserError,
        WorkflowError,
    )
    from .dag.live import gather
    from .dag.llm import agent, llm, prompt
    from .dag.messages import Message, assistant, system, user
    from .dag.plan_and_run import plan_and_run
    from .dag.sampling import Sampling
    from .dag.unordered import unordered
    from .dag.workflow import workflow
    from .engine.engine import Engine
    from .engine.generation import Generation, Usage
    from .engine.row import Failure, Row
    from .engine.run import Run
    from .tools.calculator import calculator
    from .tools.sql import sqlite_tool
    from .tools.tool import tool

_HOMES = {
    "agent": "dag.llm",
    "assistant": "dag.messages",
    "calculator": "tools.calculator",
    "Engine": "engine.engine",
    "Failure": "engine.row",
    "gather": "dag.live",
    "Generation": "engine.generation",
    "llm": "dag.llm",
    "loop": "dag.control",
    "map": "dag.control",
    "Message": "dag.messages",
    "plan_and_run": "dag.plan_and_run",
    "prompt": "dag.llm",
    "Row": "engine.row",
    "Run": "engine.run",
    "Sampling": "dag.sampling",
    "sqlite_tool": "tools.sql",
    "system": "dag.messages",
    "tool": "tools.tool",
    "Usage": "engine.generation",
    "unordered": "dag.unordered",
    "user": "dag.messages",
    "when": "dag.control",
    "workflow": "dag.workflow",
}
"""The module of every public name that is not an error; errors live in dag.errors."""

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "Engine",
    "EngineError",
    "Failure",
    "Generation",
    "GenerationError",
    "InputError",
    "LimitError",
    "Message",
    "ModelError",
    "OutputError",
    "PlaitError",
    "Problem",
    "PromptError",
    "Row",
    "RowError",
    "Run",
    "Sampling",
    "ToolError",
    "ToolTimeout",
    "Usage",
    "UserError",
    "WorkflowError",
    "agent",
    "assistant",
    "calculator",
    "gather",
    "llm",
    "loop",
    "map",
    "plan_and_run",
    "prompt",
    "sqlite_tool",
    "system",
    "tool",
    "unordered",
    "user",
    "when",
    "workflow",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    home = import_module(f".{_HOMES.get(name, 'dag.errors')}", __name__)
    value = getattr(home, "map_" if name == "map" else name)
    globals()[name] = value
    return value


def _paint(target: Any) -> dict[str, str]:
    from .dag.painted import painted

    return painted(target)


paint_with(_paint)


def __dir__() -> list[str]:
    return sorted(__all__)
