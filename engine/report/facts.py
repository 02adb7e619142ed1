"""What a report tells, read from a run's directory in one pass over its results."""

from __future__ import annotations

import heapq
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...dag.analyze import whole
from ...dag.errors import InputError
from ..results import read_results
from ..rows import find_rows
from ..rundir import RunDir
from ..starts import SUMMED, measured, nodes_of
from .tracks import Tracks, read_tracks

SLOWEST, SAMPLES, EXAMPLES = 10, 8, 3
_ITEM = re.compile(r"\[\d+\]")
"""The item of a map or round of a loop in a node's path; counts are for all of them."""


@dataclass(slots=True)
class Failures:
    """Rows that failed with one type of error."""

    count: int = 0
    nodes: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Facts:
    """Everything a report shows."""

    config: dict[str, Any]
    plan: dict[str, Any]
    drawing: str
    tracks: Tracks = field(default_factory=Tracks)
    ok: int = 0
    failed: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """Of every row."""
    slowest: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    inputs: dict[Any, dict[str, Any]] = field(default_factory=dict)
    """Columns of the rows that are shown, when the input can still be read."""

    @property
    def sessions(self) -> list[dict[str, Any]]:
        return list(self.config["sessions"])

    @property
    def status(self) -> str:
        return str(self.sessions[-1]["status"])

    @property
    def rows(self) -> int:
        return int(self.config.get("rows", 0))

    @property
    def wall(self) -> float:
        """Seconds of all starts together, as far as they came to an end."""
        return float(sum(s.get("stats", {}).get("seconds", 0.0) for s in self.sessions))

    def total(self, name: str) -> int:
        """A counter summed over all starts."""
        return sum(s.get("stats", {}).get(name, 0) for s in self.sessions)

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Counters of every node, summed over all starts."""
        return nodes_of(self.sessions)

    @property
    def predicted(self) -> dict[str, Any]:
        """What the cost model says of the last start, for answers as long as they were."""
        return dict(self.sessions[-1].get("predicted") or {})

    @property
    def engine_nodes(self) -> dict[str, dict[str, Any]]:
        """By node, what the cost model says of its tokens beside the engine's seconds. Of several
        starts only the latter can be added up."""
        told = [(s.get("predicted") or {}).get("nodes", {}) for s in self.sessions]
        if len(told) == 1:
            return dict(told[0])
        found: dict[str, dict[str, Any]] = {}
        for name, node in (pair for nodes in told for pair in nodes.items()):
            if "engine_seconds" in node:
                sums = found.setdefault(name, {"engine_seconds": 0.0})
                sums["engine_seconds"] += node["engine_seconds"]
        return found

    @property
    def cost(self) -> dict[str, Any]:
        """What was expected of the whole batch when it began, or else of its last start; empty when
        nothing was."""
        rehearsed = next((s["cost"] for s in self.sessions[::-1] if s.get("cost")), None)
        return dict(rehearsed or self.predicted.get("before") or {})

    @property
    def expected_nodes(self) -> dict[str, dict[str, Any]]:
        """The same by node."""
        return dict((self.cost.get("rehearsed") or {}).get("nodes", {}))

    @property
    def measured(self) -> dict[str, float]:
        """What engines did, all starts together."""
        return measured(self.sessions)

    def quantile(self, part: float) -> float:
        """Seconds within which this part of the rows was done."""
        times = sorted(self.seconds)
        return times[min(len(times) - 1, int(part * len(times)))] if times else 0.0

    def as_json(self) -> dict[str, Any]:
        """The figures of the report."""
        return {
            "workflow": self.config.get("workflow"), "status": self.status,
            "rows": {"total": self.rows, "ok": self.ok, "failed": self.failed},
            "seconds": self.wall, "nodes": self.nodes,
            "errors": {kind: f.count for kind, f in self.failures.items()},
            "row_seconds": {"p50": self.quantile(0.5), "p95": self.quantile(0.95)},
            "cost": self.cost or None, "analysis": self._analysis(),
            **{n: self.total(n) for n in SUMMED if n.endswith("tokens")},
        }  # fmt: skip

    def _analysis(self) -> dict[str, dict[str, float]]:
        """Predicted and actual numbers of the whole batch, where both are known."""
        stats = {"seconds": self.wall, "nodes": self.nodes, "engine": self.measured}
        return whole(self.cost, stats) if self.cost else {}


def read_facts(run: RunDir) -> Facts:
    """Read a run's directory. Raises InputError when it holds no run."""
    config = run.read()
    drawing = run.drawing.read_text("utf-8") if run.drawing.is_file() else ""
    tracks = read_tracks(_json(run.trace) or {})
    facts = Facts(config, _json(run.plan) or {}, drawing, tracks)
    if run.out.is_file():
        _read_rows(facts, run.out)
    shown = [*facts.slowest, *facts.samples, *(e for f in facts.failures.values()
                                               for e in f.examples)]  # fmt: skip
    facts.inputs = _inputs(run, config, {row["id"] for row in shown})
    return facts


def _read_rows(facts: Facts, path: Path) -> None:
    every = max(1, facts.rows // SAMPLES)
    slowest: list[tuple[float, int, dict[str, Any]]] = []
    for number, (_, _, row) in enumerate(read_results(path)):
        seconds = float(row.get("seconds") or 0.0)
        facts.seconds.append(seconds)
        heapq.heappush(slowest, (seconds, -number, row))
        if len(slowest) > SLOWEST:
            heapq.heappop(slowest)
        if row["status"] != "ok":
            _fail(facts, row)
            continue
        facts.ok += 1
        if len(facts.samples) < SAMPLES and number >= len(facts.samples) * every:
            facts.samples.append(row)
    facts.slowest = [row for _, _, row in sorted(slowest, key=lambda s: (-s[0], -s[1]))]


def _fail(facts: Facts, row: dict[str, Any]) -> None:
    facts.failed += 1
    error = row.get("error") or {}
    failures = facts.failures.setdefault(str(error.get("type")), Failures())
    failures.count += 1
    node = _ITEM.sub("", error.get("node") or "")
    if node and (node in failures.nodes or len(failures.nodes) < 20):
        failures.nodes[node] = failures.nodes.get(node, 0) + 1
    if len(failures.examples) < EXAMPLES:
        failures.examples.append(row)


def _inputs(
    run: RunDir, config: dict[str, Any], ids: set[Any]
) -> dict[Any, dict[str, Any]]:  # fmt: skip
    settings = config.get("settings", {})
    path = Path(config.get("cwd", "."), str(settings.get("input", "")))
    if run.stdin.is_file():
        path = run.stdin
    try:
        return find_rows(path, ids)
    except InputError:
        return {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def spread(values: Sequence[float], bins: int) -> list[int]:
    """How many values fall into each of `bins` equal parts of 0 to the greatest value."""
    counts, most = [0] * bins, max(values, default=0.0)
    for value in values:
        counts[min(bins - 1, int(value / most * bins)) if most else 0] += 1
    return counts
