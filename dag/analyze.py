"""Predicted beside actual: what a plan said of a run that has been made since, and which of its
assumptions was off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .cost import loads_of
from .estimates import Estimates
from .explain import seconds_text
from .faults import off_by
from .foreseen import COLUMNS, Foreseen, foreseen, nodes_of
from .names import named_nodes
from .nodes import Agent, LLMCall, ToolCall
from .observed import Sketch

if TYPE_CHECKING:
    from .cost import Cost
    from .logical import Plan

SIDES = ("predicted", "actual")
WHOLE = {
    "engine_seconds": ("engine at work", 2, " s"),
    "decode_steps": ("engine steps", 0, ""),
    "tool_seconds": ("tools, all calls together", 2, " s"),
    "kv_peak_tokens": ("KV tokens at the peak", 0, ""),
    "loads": ("model loads", 0, ""),
}
"""Numbers of the batch as a whole: what they are, digits behind the point, unit."""
NOT_RUN = dict.fromkeys(("calls", "prompt_tokens", "cached_tokens", "completion_tokens"), 0)


def compare(
    plan: Plan, cost: Cost | None, stats: Mapping[str, Any], known: Estimates | None = None
) -> list[dict[str, Any]]:
    """One entry per node that ran or was to, then one for the whole batch: predicted and actual
    numbers, as `COLUMNS` names them, and `seconds_each` of its calls.

    `stats` are a run's counters as they stand in run.json; `known` is what was known of lengths and
    tools when it began.
    """
    found = []
    counted = stats.get("nodes", {})
    predicted = foreseen(plan, cost, known or Estimates())
    nodes = nodes_of(plan)
    for name in dict.fromkeys((*nodes, *counted)):
        ran = counted.get(name, NOT_RUN)
        if name not in predicted and not ran["prompt_tokens"]:
            continue  # a tool that nothing was said of, or what makes no calls
        said = predicted.get(name, Foreseen())
        made = ran["calls"] - ran.get("merged", 0)
        actual = (made, ran["prompt_tokens"] - ran["cached_tokens"], ran["completion_tokens"])
        entry: dict[str, Any] = {"node": name, "predicted": said.numbers, "actual": actual}
        if isinstance(nodes.get(name), Agent):
            entry["turns"] = True
        told = {"at_most": said.at_most, "open": said.open, "lengths": said.lengths}
        entry |= {what: value for what, value in told.items() if value}
        each = ran["seconds"] / made if made else None
        if (said.seconds, each) != (None, None):
            entry["seconds_each"] = {"predicted": said.seconds, "actual": each}
        found.append(entry)
    total = _totals(found)
    if cost is not None:
        total |= whole(cost.as_dict(), stats)
    return [*found, {"node": "all", **total}]


def whole(cost: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The batch as a whole, what was `predicted` and what was `actual`, where both are known.

    `cost` is one as in JSON. `seconds`; `engine_seconds` in steps, and `decode_steps`;
    `tool_seconds`, summed over calls; `kv_peak_tokens`; and `loads` of models, the first included.
    """
    rehearsed, engine = cost.get("rehearsed") or {}, stats.get("engine") or {}
    tools = [node for node in stats["nodes"].values() if node.get("operator") == "ToolCall"]
    loads = loads_of(cost["loads"], cost["workers"])
    pairs = {
        "seconds": (cost["seconds"], stats["seconds"]),
        "engine_seconds": (
            cost["prefill_seconds"] + cost["decode_seconds"], engine.get("step_seconds"),
        ),
        "decode_steps": (cost["decode_steps"], engine.get("steps")),
        "tool_seconds": (
            rehearsed.get("tool_seconds") or None, sum(node["seconds"] for node in tools),
        ),
        "kv_peak_tokens": (rehearsed.get("kv_peak_tokens"), engine.get("kv_peak_tokens")),
        "loads": (max(loads, engine.get("models", 0)), engine.get("loads")),
    }  # fmt: skip
    return {
        name: {"predicted": predicted, "actual": actual}
        for name, (predicted, actual) in pairs.items() if None not in (predicted, actual)
    }  # fmt: skip


def _totals(found: list[dict[str, Any]]) -> dict[str, Any]:
    sums: dict[str, Any] = {
        side: tuple(sum(entry[side][i] for entry in found) for i in range(len(COLUMNS)))
        for side in SIDES
    }
    most = [name for name in COLUMNS if any(name in e.get("at_most", ()) for e in found)]
    return sums | {"at_most": most} if most else sums


def analysis(
    plan: Plan, cost: Cost | None, stats: Mapping[str, Any], known: Estimates | None = None
) -> str:
    """The comparison as text."""
    entries = compare(plan, cost, stats, known)
    head = ("predicted -> actual", *COLUMNS, "a call takes")
    table = [head, *((f"  {entry['node']}", *_cells(entry)) for entry in entries)]
    lines = list(_aligned(table))
    seconds = entries[-1].get("seconds")
    if seconds:
        off = seconds["predicted"] / seconds["actual"] - 1 if seconds["actual"] else 0.0
        told = f"{seconds['predicted']:.2f} s predicted, {seconds['actual']:.2f} s actual"
        lines.append(f"  seconds: {told} ({off:+.0%})")
    lines += [f"  {line}" for line in _beside(entries[-1])]
    lines += [f"  {line}" for line in off_by(entries, cost is not None)]
    return "\n".join(lines)


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table, names to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        numbers = (f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield f"{name:{widths[0]}}{''.join(numbers)}".rstrip()


def _cells(entry: Mapping[str, Any]) -> Iterator[str]:
    for what, predicted, actual in zip(COLUMNS, entry["predicted"], entry["actual"], strict=True):
        most = "<=" if what in entry.get("at_most", ()) else ""
        said = "?" if entry.get("open") else f"{most}{predicted:,}"
        yield f"{said} -> {actual:,}"
    each = entry.get("seconds_each")
    sides = [each[side] and seconds_text(each[side]) or "-" for side in SIDES] if each else []
    yield " -> ".join(sides)


def _beside(entry: Mapping[str, Any]) -> Iterator[str]:
    """What is known of the batch as a whole besides its seconds."""
    for name, (what, digits, unit) in WHOLE.items():
        if name in entry and (entry[name]["predicted"] or entry[name]["actual"]):
            predicted, actual = (f"{entry[name][side]:,.{digits}f}" for side in SIDES)
            yield f"{what}: {predicted}{unit} predicted, {actual}{unit} actual"


def history(stats: Mapping[str, Any], plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """Mean length of every LLM node's answers, and mean seconds of every tool, in a run, by the
    node's id: of all nodes that have it, where bodies are many."""
    lengths: dict[str, list[tuple[float, float]]] = defaultdict(list)
    tools: dict[str, list[tuple[float, float]]] = defaultdict(list)
    nodes = dict(pair for part in plan.parts for pair in named_nodes(part.workflow))
    for name, node in nodes.items():
        counted = stats.get("nodes", {}).get(name)
        made = counted["calls"] - counted.get("merged", 0) if counted else 0
        if made and isinstance(node, LLMCall):
            lengths[node.id].append((counted["completion_tokens"], _answers(counted, node, made)))
        if made and isinstance(node, ToolCall):
            tools[node.id].append((counted["seconds"], made))
    return _means(lengths), _means(tools)


def _answers(counted: Mapping[str, Any], node: LLMCall, made: int) -> float:
    """Those that the calls made have got: what is refused has none."""
    answers = counted.get("seen", {}).get("answers")
    return Sketch.of(answers).count if answers else made * node.sampling.n


def _means(found: Mapping[str, list[tuple[float, float]]]) -> dict[str, float]:
    return {id: sum(t for t, _ in of) / sum(n for _, n in of) for id, of in found.items()}
