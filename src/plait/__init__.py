"""plait: agentic workflows as query plans, run on your own GPUs."""

from __future__ import annotations

from .dag.control import loop, when
from .dag.control import map_ as map  # noqa: A004
from .dag.errors import (
    Cancelled,
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
from .dag.sampling import Sampling
from .dag.workflow import workflow
from .tools.tool import tool

__all__ = [
    "Cancelled",
    "ConfigError",
    "EngineError",
    "GenerationError",
    "InputError",
    "LimitError",
    "Message",
    "ModelError",
    "OutputError",
    "PlaitError",
    "Problem",
    "PromptError",
    "RowError",
    "Sampling",
    "ToolError",
    "ToolTimeout",
    "UserError",
    "WorkflowError",
    "agent",
    "assistant",
    "gather",
    "llm",
    "loop",
    "map",
    "prompt",
    "system",
    "tool",
    "user",
    "when",
    "workflow",
]
