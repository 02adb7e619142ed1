"""A backend without a model: answers come from a function. For tests, dry runs and benchmarks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from ...dag.errors import GenerationError, PlaitError, first_line
from ...dag.messages import Message
from ..generation import Generation, Usage
from .backend import Call

Answer = Callable[[Call], str]


def prompt_text(call: Call) -> str:
    """A call's prompt as one text: the contents of its messages, a line each."""
    if isinstance(call.prompt, str):
        return call.prompt
    return "\n".join(m.content if isinstance(m, Message) else str(m) for m in call.prompt)


def echo(call: Call) -> str:
    """The last message itself; where JSON, a choice or the like is asked for, the least of it."""
    sampling = call.sampling
    if sampling.json_schema is not None:
        return json.dumps(least(sampling.json_schema))
    if sampling.choice is not None:
        return sampling.choice[0]
    last = call.prompt[-1] if isinstance(call.prompt, list) else call.prompt
    return last.content if isinstance(last, Message) else str(last)


def least(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """The smallest value a JSON schema of plain kinds allows."""
    root = schema if root is None else root
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return least(root.get("$defs", {})[name], root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return least(schema[key][0], root)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {k: least(fields[k], root) for k in schema.get("required", ()) if k in fields}
        case "array":
            return [least(schema.get("items", {}), root)] * int(schema.get("minItems", 0))
        case "string":
            return "x" * int(schema.get("minLength", 0))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return None


class FakeBackend:
    """Answers every call from a function of the call; words count as tokens.

    `seconds` is how long a call takes; it is awaited, so calls overlap as real ones would.
    """

    def __init__(self, answer: Answer = echo, seconds: float = 0.0) -> None:
        self._answer, self._seconds = answer, seconds
        self.calls = 0

    async def generate(self, call: Call) -> list[Generation]:
        self.calls += 1
        if self._seconds:
            await asyncio.sleep(self._seconds)
        texts = [self._write(call) for _ in range(call.sampling.n)]
        asked = prompt_text(call).count(" ") + 1
        return [
            Generation((), text, "stop", None, Usage(asked * (i == 0), 0, text.count(" ") + 1))
            for i, text in enumerate(texts)
        ]  # fmt: skip

    def _write(self, call: Call) -> str:
        try:
            text = self._answer(call)
        except PlaitError:
            raise
        except Exception as error:
            raise GenerationError(f"the fake model raised {first_line(error)}") from error
        if not isinstance(text, str):
            raise GenerationError(f"the fake model returned {type(text).__name__}, not a text")
        return text

    async def open(self, models: tuple[str, ...]) -> None:
        """A fake answers under any alias."""

    def describe(self) -> dict[str, Any]:
        return {"backend": "fake", "answer": getattr(self._answer, "__name__", "function")}

    def close(self) -> None:
        """Nothing to give back."""
