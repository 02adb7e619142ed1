"""What a run gives back: rows, failures, usage and counters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from ..dag.errors import PlaitError, RowError
from ..dag.observed import Observed
from .generation import Generation, Usage
from .values import to_json

MAX_SPANS = 10_000


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


class RowState:
    """What is counted for a row while it runs; all its programs share one.

    `index` is its position in the input, `place` in the plan (-1 without one), `rank` in the order
    in which rows start.
    """

    __slots__ = ("id", "index", "place", "rank", "prompt_tokens", "cached_tokens",
                 "completion_tokens", "started", "calls", "waits", "parked",
                 "expanded")  # fmt: skip

    def __init__(self, id: str | int, index: int, place: int = -1, rank: int = 0) -> None:
        self.id, self.index = id, index
        self.place, self.rank = place, rank
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


@dataclass(slots=True)
class NodeStats:
    """Counters of one node over a run."""

    operator: str
    calls: int = 0
    """Calls asked for."""
    merged: int = 0
    """Of those, answered by the execution of an equal call."""
    errors: int = 0
    seconds: float = 0.0
    """Summed over calls; calls overlap, so this is not wall time."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seen: Observed = field(default_factory=Observed)
    """How long answers are, how long tools take, how many values differ: for the cost model."""

    def as_json(self) -> dict[str, Any]:
        counters = {f: getattr(self, f) for f in NodeStats.__slots__ if f != "seen"}
        return {**counters, "seen": self.seen.as_json()}


@dataclass(frozen=True, slots=True)
class Span:
    """One task in time, for the timeline. Seconds count from the start of the run."""

    node: str
    operator: str
    row: str | int
    start: float
    end: float
    ok: bool


@dataclass(slots=True)
class Stats:
    """Counters of a run, readable while it goes on."""

    rows_total: int | None = None
    """Rows in the input, when known."""
    rows_ok: int = 0
    rows_failed: int = 0
    rows_running: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    nodes: dict[str, NodeStats] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    """Failed rows by type of error."""
    spans: list[Span] = field(default_factory=list)
    """The first tasks of the run, at most MAX_SPANS."""
    spans_dropped: int = 0
    planning_seconds: float = 0.0
    """Part of `seconds`, before the first row started."""
    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None

    @property
    def rows_done(self) -> int:
        return self.rows_ok + self.rows_failed

    @property
    def merged(self) -> int:
        """Calls that were answered by the execution of an equal one."""
        return sum(node.merged for node in self.nodes.values())

    @property
    def seconds(self) -> float:
        return (self.ended or time.perf_counter()) - self.started

    def task(
        self, node: str, operator: str, row: RowState, start: float, ok: bool,
        generations: list[Generation], merged: bool = False,
    ) -> None:  # fmt: skip
        """Count one finished task. A merged one did nothing itself: it leaves no span."""
        end = time.perf_counter()
        counted = self.nodes.get(node)
        if counted is None:
            counted = self.nodes[node] = NodeStats(operator)
        counted.calls += 1
        counted.errors += not ok
        if merged:
            counted.merged += 1
            return
        counted.seconds += end - start
        seen = counted.seen
        if ok and not generations:
            seen.seconds.add(end - start)
        for g in generations:
            usage = g.usage
            seen.answers.add(usage.completion_tokens)
            seen.value(g.text)
            counted.prompt_tokens += usage.prompt_tokens
            counted.cached_tokens += usage.cached_tokens
            counted.completion_tokens += usage.completion_tokens
            self.prompt_tokens += usage.prompt_tokens
            self.cached_tokens += usage.cached_tokens
            self.completion_tokens += usage.completion_tokens
        if len(self.spans) < MAX_SPANS:
            zero = self.started
            self.spans.append(Span(node, operator, row.id, start - zero, end - zero, ok))
        else:
            self.spans_dropped += 1

    def result(self, node: str, value: Any) -> None:
        """Learn from the result of a tool, before its task is counted."""
        counted = self.nodes.get(node)
        if counted is None:
            counted = self.nodes[node] = NodeStats("ToolCall")
        with suppress(Exception):  # of the value's own class
            counted.seen.value(value if type(value) is str else repr(value))

    def row(self, row: Row) -> None:
        """Count one finished row."""
        if row.error is None:
            self.rows_ok += 1
        else:
            self.rows_failed += 1
            self.errors[row.error.type] = self.errors.get(row.error.type, 0) + 1

    def as_json(self) -> dict[str, Any]:
        """Counters for run.json: everything but the spans."""
        names = ("rows_total", "rows_ok", "rows_failed", "prompt_tokens", "cached_tokens",
                 "completion_tokens", "errors", "spans_dropped", "merged",
                 "planning_seconds")  # fmt: skip
        nodes = {name: node.as_json() for name, node in self.nodes.items()}
        return {**{n: getattr(self, n) for n in names}, "seconds": self.seconds, "nodes": nodes}


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A finished run: one row of results for every row of input, in the input's order."""

    rows: list[Row]
    stats: Stats
    plan: Any
    """What was planned; see `plait.explain`."""

    def __repr__(self) -> str:
        return f"<run of {len(self.rows)} rows, {len(self.failed)} failed>"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def outputs(self) -> list[Any]:
        """Outputs in the input's order; None for rows that failed."""
        return [row.output for row in self.rows]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.ok]


def row_id(row: Mapping[str, Any], index: int) -> str | int:
    """A row's identity: its `id` if that is a number or a text with something in it, else its
    position (an empty cell of a CSV file names no row)."""
    id = row.get("id", index)
    usable = isinstance(id, str | int) and not isinstance(id, bool) and id != ""
    return id if usable else index


def unnumbered(path: str) -> str:
    """A node's name in counters: `map[3]/look` is `map/look`, `look[3]/look` is `look`."""
    if "[" not in path:
        return path
    *bodies, node = path.split("/")
    names = [body.partition("[")[0] for body in bodies]
    return "/".join([*names[:-1], node] if names[-1] == node else [*names, node])
