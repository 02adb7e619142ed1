"""The test kit: models without weights, a clock that tests turn, and checks on results.

from plait.testing import FakeBackend, scripted

with plait.Engine(backend=FakeBackend(scripted(["bees buzz", "ants march"]))) as engine:
    ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .dag.errors import GenerationError, InputError
from .dag.messages import Message
from .engine.backends.backend import Backend, Call
from .engine.backends.fake import Answer, FakeBackend, echo, least, prompt_text
from .engine.generation import Generation, TokenLogprob, Usage
from .engine.row import Row
from .engine.values import to_json

__all__ = [
    "FakeBackend",
    "RecordingBackend",
    "ReplayBackend",
    "VirtualClock",
    "assert_same_rows",
    "echo",
    "from_function",
    "least",
    "prompt_text",
    "scripted",
]


def scripted(answers: Iterable[str]) -> Answer:
    """A model that gives these answers in the order of its calls; asking for more is an error."""
    left = iter(answers)

    def answer(call: Call) -> str:
        try:
            return next(left)
        except StopIteration:
            raise GenerationError(f"the script has no answer left for {call.node!r}") from None

    return answer


def from_function(fn: Callable[[str], str]) -> Answer:
    """A model that applies a function to the text of the prompt."""
    return lambda call: fn(prompt_text(call))


class RecordingBackend:
    """Passes calls to another backend and writes each with its answer to a JSONL file."""

    def __init__(self, backend: Backend, path: str | Path) -> None:
        self._backend = backend
        self._path = Path(path)
        self._path.write_text("", encoding="utf-8")

    async def open(self, models: tuple[str, ...]) -> None:
        await self._backend.open(models)

    async def generate(self, call: Call) -> list[Generation]:
        generations = await self._backend.generate(call)
        line = {"call": _key(call), "generations": [asdict(g) for g in generations]}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return generations

    def describe(self) -> dict[str, Any]:
        return self._backend.describe()

    def close(self) -> None:
        self._backend.close()


class ReplayBackend:
    """Answers from a recording, for calls equal in prompt, model, settings and seed.

    A call that was not recorded raises GenerationError; equal calls replay in recorded order,
    the last one again and again.
    """

    def __init__(self, path: str | Path) -> None:
        self._answers: dict[str, list[list[Generation]]] = {}
        try:
            for line in Path(path).read_text("utf-8").rstrip("\n").split("\n"):
                entry = json.loads(line)
                answers = [_generation(g) for g in entry["generations"]]
                self._answers.setdefault(entry["call"], []).append(answers)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a recording: {error}") from error

    async def open(self, models: tuple[str, ...]) -> None:
        """A recording needs no model."""

    async def generate(self, call: Call) -> list[Generation]:
        answers = self._answers.get(_key(call))
        if answers is None:
            raise GenerationError("the recording has no such call", call.node)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def describe(self) -> dict[str, Any]:
        return {"backend": "replay", "calls": len(self._answers)}

    def close(self) -> None:
        """Nothing to give back."""


def _key(call: Call) -> str:
    """A hash of what determines a call's answer."""
    messages = [m.as_dict() if isinstance(m, Message) else m for m in call.prompt]
    parts: list[Any] = [
        messages,
        asdict(call.sampling),
        call.model,
        call.seed,
        list(call.tools),
        call.raw,
    ]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _generation(fields: dict[str, Any]) -> Generation:
    logprobs = fields["logprobs"]
    return Generation(
        tuple(fields["token_ids"]),
        fields["text"],
        fields["finish_reason"],
        None if logprobs is None else tuple(
            TokenLogprob(p["token_id"], p["logprob"], tuple((int(t), v) for t, v in p["top"]))
            for p in logprobs
        ),
        Usage(**fields["usage"]),
    )  # fmt: skip


class VirtualClock:
    """A clock that stands still until a test turns it. Give it where a clock is asked for."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Sleeping turns the clock at once."""
        self.advance(seconds)


def assert_same_rows(left: Sequence[Row], right: Sequence[Row]) -> None:
    """Raise AssertionError listing rows that differ in status, output or type of error."""
    seen = {row.id: _outcome(row) for row in left}
    other = {row.id: _outcome(row) for row in right}
    differing = [
        f"row {id!r}: {seen.get(id, 'missing')} != {other.get(id, 'missing')}"
        for id in dict.fromkeys([*seen, *other])
        if seen.get(id) != other.get(id)
    ]
    if differing:
        shown = "\n".join(differing[:10])
        raise AssertionError(f"{len(differing)} rows differ:\n{shown}")


def _outcome(row: Row) -> tuple[str, Any, str | None]:
    return row.status, to_json(row.output), row.error.type if row.error else None
