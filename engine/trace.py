"""A run in time, in the Chrome trace event format that Perfetto and chrome://tracing read.

Every model is a process with its requests on lanes and, as counters, its KV pages and requests
over time; tools are another process. Spans that overlap lie on lanes under each other.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dag.names import named_nodes
from ..dag.nodes import LLMCall, Workflow
from .run import Span, Stats
from .watch import Sample

TOOLS = "tools"
ID_CHARS = 80
"""Characters of a row's id that are written."""


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


def trace_json(stats: Stats, workflow: Workflow, samples: Sequence[Sample] = ()) -> str:
    """The timeline as the text of a trace file."""
    other = {
        "workflow": workflow.name, "spans_dropped": stats.spans_dropped,
        "tasks_merged": stats.merged,
    }  # fmt: skip
    return json.dumps(
        {
            "traceEvents": list(_events(stats, workflow, samples)),
            "displayTimeUnit": "ms",
            "otherData": other,
        },
        ensure_ascii=True,
    )


def _events(
    stats: Stats, workflow: Workflow, samples: Sequence[Sample]
) -> Iterator[dict[str, Any]]:
    models = {n: node.model for n, node in named_nodes(workflow) if isinstance(node, LLMCall)}
    samples = [s for s in samples if s.at >= stats.started]
    groups: dict[str, list[Span]] = {s.model: [] for s in samples}
    for span in stats.spans:
        groups.setdefault(_group(span, models, groups), []).append(span)
    order = sorted(groups, key=lambda name: (name == TOOLS, list(groups).index(name)))
    for pid, name in enumerate(order, 1):
        lane = "tool" if name == TOOLS else "request"
        yield _name("process_name", pid, 0, name if name == TOOLS else f"model {name}")
        yield {"name": "process_sort_index", "ph": "M", "pid": pid, "tid": 0,
               "args": {"sort_index": pid}}  # fmt: skip
        yield from _counters(pid, [s for s in samples if s.model == name], stats.started)
        yield from _spans(pid, lane, groups[name])


def _group(span: Span, models: Mapping[str, str], known: Mapping[str, Any]) -> str:
    """The process a task belongs to. Calls of a live program are not among the nodes."""
    if span.operator == "ToolCall":
        return TOOLS
    return models.get(span.node) or next((m for m in known if m != TOOLS), "default")


def _spans(pid: int, kind: str, spans: list[Span]) -> Iterator[dict[str, Any]]:
    used = 0
    for span, lane in lanes(spans):
        if lane == used:
            used += 1
            yield _name("thread_name", pid, used, f"{kind} {used}")
            yield {"name": "thread_sort_index", "ph": "M", "pid": pid, "tid": used,
                   "args": {"sort_index": used}}  # fmt: skip
        row = span.row if isinstance(span.row, int) else span.row[:ID_CHARS]
        yield {
            "name": span.node, "cat": span.operator, "ph": "X", "pid": pid, "tid": lane + 1,
            "ts": round(span.start * 1e6), "dur": max(1, round((span.end - span.start) * 1e6)),
            "args": {"row": row, "ok": span.ok},
        }  # fmt: skip


def _counters(pid: int, samples: Sequence[Sample], zero: float) -> Iterator[dict[str, Any]]:
    for s in samples:
        at = {"ph": "C", "pid": pid, "tid": 0, "ts": round((s.at - zero) * 1e6)}
        pages = {"held": s.held, "cached": s.cached, "free": s.free}
        yield {"name": "KV pages", **at, "args": pages}
        yield {"name": "requests", **at, "args": {"running": s.running, "waiting": s.waiting}}


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
