"""All starts of a run taken together: one that was resumed or retried did its work in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dag.errors import ConfigError, InputError
from ..dag.observed import Observed
from .rundir import RunDir

SUMMED = (
    "calls",
    "merged",
    "errors",
    "seconds",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)


def all_starts(run: Path, workflow: str) -> dict[str, Any]:
    """What was expected when a run began, and the counters of all its starts, as of one start.

    Raises InputError when it has none yet, ConfigError when it is of another workflow.
    """
    config = RunDir(run).read()
    starts = [start for start in config.get("sessions", []) if "stats" in start]
    if not starts:
        raise InputError(f"{run} holds no finished run: run it first")
    if config.get("workflow") != workflow:
        ran = config.get("workflow")
        raise ConfigError(f"{run} is a run of the workflow {ran!r}, not of {workflow!r}")
    nodes = nodes_of(starts)
    for name, seen in _seen(starts).items():
        nodes[name]["seen"] = seen.as_json()
    seconds = sum(start["stats"]["seconds"] for start in starts)
    first: dict[str, Any] = config["sessions"][0]
    return {**first, "stats": {"seconds": seconds, "nodes": nodes}}


def nodes_of(starts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Counters of every node, summed over all starts."""
    found: dict[str, dict[str, Any]] = {}
    for start in starts:
        for name, node in start.get("stats", {}).get("nodes", {}).items():
            sums = found.setdefault(name, {"operator": node["operator"]})
            for key in SUMMED:
                sums[key] = sums.get(key, 0) + node.get(key, 0)
    return found


def _seen(starts: Sequence[Mapping[str, Any]]) -> dict[str, Observed]:
    """What every node has shown, over all starts."""
    found: dict[str, Observed] = {}
    for start in starts:
        for name, node in start["stats"]["nodes"].items():
            if "seen" in node:
                found.setdefault(name, Observed()).merge(Observed.of(node["seen"]))
    return found
