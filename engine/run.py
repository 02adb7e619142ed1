"""What a run gives back: its rows, and counters that are readable while it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..dag.observed import Observed
from ..dag.template import in_prompt
from .generation import Generation
from .row import Row, RowState

MAX_SPANS = 10_000


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
    model: str = ""
    """Alias of the model that was called; empty for a tool."""
    worker: int | None = None
    """Which of several workers did it."""
    rank: int = 0
    """The row's place in the order in which rows began."""


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
    """Tasks, at most MAX_SPANS: those of every row, or of every `spans_of`th in the order in which
    they began."""
    spans_of: int = 1
    _ranks: int = field(default=0, init=False, repr=False)
    """The last row, in that order, of which there was a span."""
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
        generations: list[Generation], merged: bool = False, model: str = "",
        worker: int | None = None,
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
        zero = self.started
        span = Span(node, operator, row.id, start - zero, end - zero, ok, model, worker, row.rank)
        self._show(span)

    def _show(self, span: Span) -> None:
        """Keep a span. When there are too many, those of every second row go, and further ones come
        from half as many rows; so whole rows are shown, from the first to the last."""
        self._ranks = max(self._ranks, span.rank)
        while len(self.spans) >= MAX_SPANS and self.spans_of <= self._ranks:
            self.spans_of *= 2
            kept = [one for one in self.spans if not one.rank % self.spans_of]
            self.spans_dropped += len(self.spans) - len(kept)
            self.spans = kept
        if span.rank % self.spans_of or len(self.spans) >= MAX_SPANS:
            self.spans_dropped += 1
        else:
            self.spans.append(span)

    def result(self, node: str, value: Any, arguments: Mapping[str, Any]) -> None:
        """Learn from the result of a tool for these arguments, before its task is counted."""
        counted = self.nodes.get(node)
        if counted is None:
            counted = self.nodes[node] = NodeStats("ToolCall")
        with suppress(Exception):  # of the value's own class
            given = sum(len(in_prompt(argument)) for argument in arguments.values())
            counted.seen.value(in_prompt(value), given)

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


def unnumbered(path: str) -> str:
    """A node's name in counters: `map[3]/look` is `map/look`, `look[3]/look` is `look`."""
    if "[" not in path:
        return path
    *bodies, node = path.split("/")
    names = [body.partition("[")[0] for body in bodies]
    return "/".join([*names[:-1], node] if names[-1] == node else [*names, node])
