"""Chat messages: what an `@llm` body returns besides a plain string."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Role
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """Calls the assistant made, each `{"name": ..., "arguments": {...}}`."""
    name: str | None = None
    """Tool that a `tool` message comes from."""

    def as_dict(self) -> dict[str, Any]:
        """The message as chat templates expect it (OpenAI form)."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [
                {"type": "function", "function": dict(call)} for call in self.tool_calls
            ]
        if self.name is not None:
            out["name"] = self.name
        return out


Prompt = str | list[Message]
"""What a prompt body returns: one user message as text, or a list of messages."""


def system(content: str) -> Message:
    """A message that sets the model's role or rules."""
    return Message("system", content)


def user(content: str) -> Message:
    """A message from the user."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """A message from the model, as an example or as history."""
    return Message("assistant", content)
