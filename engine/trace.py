"""A run in time, in the Chrome trace event format that Perfetto and chrome://tracing read.

Every model, on every worker that has it, is a process with its loads and requests on lanes and, as
counters, its KV pages and requests over time; tools are another process. Spans that overlap lie on
lanes under each other.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..dag.nodes import Workflow
from .run import Span, Stats
from .watch import Loading, Sample, alias_and_worker

Group = tuple[str, int | None]
"""A process: a model, and which of several workers has it."""
TOOLS: Group = ("", None)
NO_ENGINES: Mapping[str, str] = MappingProxyType({})
LOAD = "(load)"
"""What a load of a model is called; no node has such a name."""
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


def trace_json(
    stats: Stats, workflow: Workflow, samples: Sequence[Sample] = (), devices: Sequence[str] = (),
    engines: Mapping[str, str] = NO_ENGINES, loads: Sequence[Loading] = (),
) -> str:  # fmt: skip
    """The timeline as the text of a trace file. `devices` are those of the workers, if several;
    `engines` says for every alias the first that shares its engine, under which samples and loads
    are."""
    other = {
        "workflow": workflow.name, "spans_dropped": stats.spans_dropped,
        "rows_shown": stats.spans_of, "tasks_merged": stats.merged,
    }  # fmt: skip
    return json.dumps(
        {
            "traceEvents": list(_events(stats, samples, devices, engines, loads)),
            "displayTimeUnit": "ms",
            "otherData": other,
        },
        ensure_ascii=True,
    )


def _events(
    stats: Stats, samples: Sequence[Sample], devices: Sequence[str], engines: Mapping[str, str],
    loads: Sequence[Loading],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    samples = [s for s in samples if s.at >= stats.started]
    groups: dict[Group, list[Span]] = {alias_and_worker(s.model): [] for s in samples}
    for span in stats.spans:
        groups.setdefault(_group(span, engines), []).append(span)
    for load in loads:
        if load.end > stats.started:
            groups.setdefault(alias_and_worker(load.model), []).append(_loading(load, stats))
    found = list(groups)
    order = sorted(groups, key=lambda g: (g == TOOLS, -1 if g[1] is None else g[1], found.index(g)))
    for pid, group in enumerate(order, 1):
        lane = "tool" if group == TOOLS else "request"
        yield _name("process_name", pid, 0, _title(group, devices, engines))
        yield {"name": "process_sort_index", "ph": "M", "pid": pid, "tid": 0,
               "args": {"sort_index": pid}}  # fmt: skip
        sampled = [s for s in samples if alias_and_worker(s.model) == group]
        yield from _counters(pid, sampled, stats.started)
        yield from _spans(pid, lane, groups[group])


def _group(span: Span, engines: Mapping[str, str]) -> Group:
    """The process a task belongs to."""
    if span.operator == "ToolCall":
        return TOOLS
    return engines.get(span.model, span.model), span.worker


def _loading(load: Loading, stats: Stats) -> Span:
    model, worker = alias_and_worker(load.model)
    start, end = max(0.0, load.start - stats.started), load.end - stats.started
    return Span(LOAD, "Load", "", start, end, True, model, worker)


def _title(group: Group, devices: Sequence[str], engines: Mapping[str, str]) -> str:
    if group == TOOLS:
        return "tools"
    model, worker = group
    aliases = [alias for alias, first in engines.items() if first == model]
    models = f"model {', '.join(aliases or [model])}"
    if worker is None:
        return models
    device = f" ({devices[worker]})" if worker < len(devices) else ""
    return f"worker {worker}{device}: {models}"


def _spans(pid: int, kind: str, spans: list[Span]) -> Iterator[dict[str, Any]]:
    used = 0
    for span, lane in lanes(spans):
        if lane == used:
            used += 1
            yield _name("thread_name", pid, used, f"{kind} {used}")
            yield {"name": "thread_sort_index", "ph": "M", "pid": pid, "tid": used,
                   "args": {"sort_index": used}}  # fmt: skip
        row = span.row if isinstance(span.row, int) else span.row[:ID_CHARS]
        start, end = round(span.start * 1e6), round(span.end * 1e6)
        yield {
            "name": span.node, "cat": span.operator, "ph": "X", "pid": pid, "tid": lane + 1,
            "ts": start, "dur": max(1, end - start),
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
