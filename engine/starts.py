"""All starts of a run taken together: one that was resumed or retried did its work in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dag.errors import ConfigError, InputError
from ..dag.observed import Observed
from .rundir import RunDir
from .watch import alias_and_worker

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
    stats = {"seconds": seconds, "nodes": nodes, "engine": measured(starts)}
    return {**first, "stats": stats}


def nodes_of(starts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Counters of every node, summed over all starts."""
    found: dict[str, dict[str, Any]] = {}
    for start in starts:
        for name, node in start.get("stats", {}).get("nodes", {}).items():
            sums = found.setdefault(name, {"operator": node["operator"]})
            for key in SUMMED:
                sums[key] = sums.get(key, 0) + node.get(key, 0)
    return found


def measured(starts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What engines did over all starts, as far as it is known: `steps`, `step_seconds`, `loads` of
    the `models`, and `kv_peak_tokens`, the most in pages that calls were seen to hold."""
    known = [start for start in starts if start.get("engine")]
    if not known:
        return {}
    work = [done for start in known for done in start["engine"].values()]
    found = {name: sum(done[name] for done in work) for name in ("steps", "step_seconds")}
    loads = [_loads(start) for start in known]
    if None not in loads:
        found["loads"] = sum(filter(None, loads))
        found["models"] = len({_backend(s, model)[0] for s in known for model in s["engine"]})
    peaks = [_kv_peak(start) for start in known]
    if None not in peaks:
        found["kv_peak_tokens"] = max(filter(None, peaks), default=0)
    return found


def _backend(start: Mapping[str, Any], model: str) -> tuple[str, Mapping[str, Any]]:
    """An alias, and what was said of the worker that has it."""
    told = start.get("backend", {})
    alias, worker = alias_and_worker(model)
    if worker is None or "workers" not in told:
        return model, told
    return alias, told["workers"][worker]


def _loads(start: Mapping[str, Any]) -> int | None:
    """How often models were loaded; aliases of one engine are under the first of them."""
    found = 0
    for model in start["engine"]:
        alias, told = _backend(start, model)
        if alias not in told.get("loads", {}):
            return None
        found += told["loads"][alias]["loads"]
    return found


def _kv_peak(start: Mapping[str, Any]) -> int | None:
    """Most KV tokens held; None where a model is gone, and with it the size of its pages."""
    tokens = 0
    for model, pages in start.get("pages", {}).items():
        alias, told = _backend(start, model)
        room = told.get("loaded", {}).get(alias, {}).get("kv_tokens")
        if room is None or not pages["all"]:
            return None
        tokens += round(pages["held"] / pages["all"] * room)
    return tokens if "pages" in start else None


def _seen(starts: Sequence[Mapping[str, Any]]) -> dict[str, Observed]:
    """What every node has shown, over all starts."""
    found: dict[str, Observed] = {}
    for start in starts:
        for name, node in start["stats"]["nodes"].items():
            if "seen" in node:
                found.setdefault(name, Observed()).merge(Observed.of(node["seen"]))
    return found
