"""Predicted beside actual: what a plan said of a run that has been made since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .nodes import LLMCall, ToolCall

if TYPE_CHECKING:
    from .cost import Cost
    from .logical import Plan

COLUMNS = ("calls made", "prefill tokens", "generated tokens")


def compare(plan: Plan, cost: Cost | None, stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per LLM node, then one for the whole batch: predicted and actual numbers.

    `stats` are a run's counters as they stand in run.json.
    """
    found = []
    leaves = plan.prefixes.leaves if plan.prefixes is not None else ()
    known = stats.get("nodes", {})
    for leaf in leaves:
        node = known.get(leaf.call.id)
        if node is None:
            continue
        most = leaf.calls * leaf.call.sampling.max_tokens
        actual = (
            node["calls"] - node.get("merged", 0),
            node["prompt_tokens"] - node["cached_tokens"],
            node["completion_tokens"],
        )
        predicted = (leaf.calls, round(leaf.computed), most)
        found.append({"node": leaf.call.id, "predicted": predicted, "actual": actual})
    total = _totals(found)
    if cost is not None:
        total |= {"seconds": {"predicted": cost.seconds, "actual": stats["seconds"]}}
    return [*found, {"node": "all", **total}]


def _totals(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        side: tuple(sum(entry[side][i] for entry in found) for i in range(len(COLUMNS)))
        for side in ("predicted", "actual")
    }


def analysis(plan: Plan, cost: Cost | None, stats: Mapping[str, Any]) -> str:
    """The comparison as text."""
    entries = compare(plan, cost, stats)
    lines = ["predicted -> actual" + " " * 7 + "".join(f"{name:>26}" for name in COLUMNS)]
    lines += [f"  {entry['node']:24}" + "".join(_cells(entry)) for entry in entries]
    seconds = entries[-1].get("seconds")
    if seconds:
        off = seconds["predicted"] / seconds["actual"] - 1 if seconds["actual"] else 0.0
        told = f"{seconds['predicted']:.2f} s predicted, {seconds['actual']:.2f} s actual"
        lines.append(f"  seconds: {told} ({off:+.0%})")
    return "\n".join(lines)


def _cells(entry: Mapping[str, Any]) -> Iterator[str]:
    for predicted, actual in zip(entry["predicted"], entry["actual"], strict=True):
        cell = f"{predicted:,} -> {actual:,}"
        yield f"{cell:>26}"


def history(stats: Mapping[str, Any], plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """Mean length of every LLM node's answers, and mean seconds of every tool, in a run."""
    lengths: dict[str, float] = {}
    tools: dict[str, float] = {}
    for part in plan.parts:
        for body in part.workflow.bodies():
            for node in body.nodes.values():
                counted = stats.get("nodes", {}).get(node.id)
                made = counted["calls"] - counted.get("merged", 0) if counted else 0
                if made and isinstance(node, LLMCall):
                    lengths[node.id] = counted["completion_tokens"] / made
                if made and isinstance(node, ToolCall):
                    tools[node.id] = counted["seconds"] / made
    return lengths, tools
