"""A run's tasks in time, in the Chrome trace event format that Perfetto and chrome://tracing read.

Every kind of task is a process of its own; tasks that overlap lie on lanes under it.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from typing import Any

from .run import Span, Stats

KINDS = {"LLMCall": "LLM calls", "Agent": "Agent turns", "ToolCall": "Tool calls"}


def lanes(spans: list[Span]) -> Iterator[tuple[Span, int]]:
    """Spans in order of their start, each with the lowest lane that is free then."""
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    for span in sorted(spans, key=lambda s: s.start):
        while busy and busy[0][0] <= span.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (span.end, lane))
        yield span, lane


def trace_json(stats: Stats, workflow: str) -> str:
    """The timeline as the text of a trace file."""
    other = {"workflow": workflow, "spans_dropped": stats.spans_dropped}
    return json.dumps(
        {"traceEvents": list(_events(stats)), "displayTimeUnit": "ms", "otherData": other},
        ensure_ascii=True,
    )


def _events(stats: Stats) -> Iterator[dict[str, Any]]:
    kinds: dict[str, list[Span]] = {}
    for span in stats.spans:
        kinds.setdefault(span.operator, []).append(span)
    for pid, (kind, spans) in enumerate(kinds.items(), 1):
        yield _name("process_name", pid, 0, KINDS.get(kind, kind))
        used = 0
        for span, lane in lanes(spans):
            if lane == used:
                used += 1
                yield _name("thread_name", pid, used, f"{kind} {used}")
            yield {
                "name": span.node, "cat": kind, "ph": "X", "pid": pid, "tid": lane + 1,
                "ts": round(span.start * 1e6), "dur": max(1, round((span.end - span.start) * 1e6)),
                "args": {"row": span.row, "ok": span.ok},
            }  # fmt: skip


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
