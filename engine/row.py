"""One row: as it comes in, what is counted while it runs, and what comes out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..dag.errors import PlaitError, RowError
from .generation import Generation, Usage
from .values import to_json


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row failed."""

    type: str
    message: str
    node: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        node = error.node if isinstance(error, RowError) else None
        return cls(type(error).__name__, str(error), node)

    def as_json(self) -> dict[str, Any]:
        return {"type": self.type, "message": self.message, "node": self.node}


@dataclass(frozen=True, slots=True)
class Item:
    """A row of input under the identity that its result will carry.

    Batches use it so that a row keeps its id and position when only some of the rows are run.
    """

    id: str | int
    index: int
    content: Mapping[str, Any] | PlaitError
    """Its columns, or why they cannot be read."""


RowIn = Mapping[str, Any] | PlaitError | Item
"""A row of input: its columns, why it could not be read, or either with its identity."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one input row."""

    id: str | int
    """The row's own `id`, else its position in the input, from 0."""
    status: Literal["ok", "error"]
    output: Any = None
    """The workflow's result, in its declared type."""
    error: Failure | None = None
    usage: Usage = Usage()
    seconds: float = 0.0
    """From the row's start to its end."""
    index: int = 0
    """Position in the input, from 0."""

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def as_json(self) -> dict[str, Any]:
        """The row as a line of a results file."""
        usage = self.usage
        return {
            "id": self.id,
            "status": self.status,
            "output": to_json(self.output),
            "error": self.error.as_json() if self.error else None,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens,
                "completion_tokens": usage.completion_tokens,
            },
            "seconds": round(self.seconds, 4),
        }


_numbers = itertools.count()


def next_number() -> int:
    """The place of a row that begins now among the rows of all runs.

    Not that among the rows of its own run: the hundredth row of a run would have to wait for
    whatever runs begin after it.
    """
    return next(_numbers)


class RowState:
    """What is counted for a row while it runs; all its programs share one.

    `index` is its position in the input, `place` in the plan (-1 without one), `rank` in the order
    in which rows start, `number` in that order over all runs.
    """

    __slots__ = ("id", "index", "place", "rank", "number", "prompt_tokens", "cached_tokens",
                 "completion_tokens", "started", "calls", "waits", "parked",
                 "expanded")  # fmt: skip

    def __init__(self, id: str | int, index: int, place: int = -1, rank: int = 0) -> None:
        self.id, self.index = id, index
        self.place, self.rank, self.number = place, rank, next_number()
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.calls = self.waits = 0  # LLM calls it makes, and what else it waits for
        self.parked = 0  # of those, what needs another row or a model that is not in memory
        self.expanded: set[int] = set()  # bodies, by the id of their wiring
        self.started = time.perf_counter()

    def add(self, generations: list[Generation]) -> None:
        for g in generations:
            self.prompt_tokens += g.usage.prompt_tokens
            self.cached_tokens += g.usage.cached_tokens
            self.completion_tokens += g.usage.completion_tokens

    def finish(self, output: Any = None, error: BaseException | None = None) -> Row:
        """The finished row. An output that cannot be JSON makes it a failed one."""
        if error is None:
            try:
                to_json(output)
            except PlaitError as not_json:
                error = not_json
        usage = Usage(self.prompt_tokens, self.cached_tokens, self.completion_tokens)
        seconds = time.perf_counter() - self.started
        if error is not None:
            return Row(self.id, "error", None, Failure.of(error), usage, seconds, self.index)
        return Row(self.id, "ok", output, None, usage, seconds, self.index)
