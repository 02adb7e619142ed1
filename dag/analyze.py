"""Predicted beside actual: what a plan said of a run that has been made since, and which of its
assumptions was off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .cost import loads_of
from .names import named_nodes
from .nodes import Agent, LLMCall, ToolCall
from .observed import Sketch

if TYPE_CHECKING:
    from .cost import Cost
    from .logical import Plan

Numbers = tuple[int, int, int]
COLUMNS = ("calls made", "prefill tokens", "generated tokens")
NOTHING: Numbers = (0, 0, 0)
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
OFF = 0.1
"""Share from which on an assumption is said to be off."""
LEAST_SECONDS = 0.005
"""By which a tool's time must be off to be told."""


def compare(plan: Plan, cost: Cost | None, stats: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per node that ran or was to, then one for the whole batch: predicted and actual
    numbers.

    `stats` are a run's counters as they stand in run.json.
    """
    found = []
    known = stats.get("nodes", {})
    predicted = _predicted(plan, cost)
    nodes = dict(pair for part in plan.parts for pair in named_nodes(part.workflow))
    for name in dict.fromkeys((*nodes, *known)):
        ran = known.get(name, NOT_RUN)
        if name not in predicted and not ran["prompt_tokens"]:
            continue  # a tool that nothing was said of, or what makes no calls
        made = ran["calls"] - ran.get("merged", 0)
        actual = (made, ran["prompt_tokens"] - ran["cached_tokens"], ran["completion_tokens"])
        numbers, said = predicted.get(name, (NOTHING, None))
        entry: dict[str, Any] = {"node": name, "predicted": numbers, "actual": actual}
        if isinstance(nodes.get(name), Agent):
            entry["turns"] = True
        if said is not None:
            each = ran["seconds"] / made if made else 0.0
            entry["seconds_each"] = {"predicted": said, "actual": each}
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


def _predicted(plan: Plan, cost: Cost | None) -> dict[str, tuple[Numbers, float | None]]:
    """By node: calls made, tokens prefilled and generated, seconds each; by rehearsal if any."""
    if cost is not None and cost.rehearsed is not None:
        return {
            name: ((n.calls - n.merged, n.prefill_tokens, n.generated_tokens), n.seconds)
            for name, n in cost.rehearsed.nodes.items()
        }
    found: dict[str, tuple[Numbers, float | None]] = {}
    for leaf in plan.prefixes.leaves if plan.prefixes is not None else ():
        sampling = leaf.call.sampling
        generated = leaf.calls * sampling.n * sampling.max_tokens
        numbers = leaf.calls, round(leaf.computed), generated
        others, _ = found.get(leaf.name, (NOTHING, None))  # of another workflow
        calls, prefill, generated = (a + b for a, b in zip(numbers, others, strict=True))
        found[leaf.name] = (calls, prefill, generated), None
    return found


def _totals(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        side: tuple(sum(entry[side][i] for entry in found) for i in range(len(COLUMNS)))
        for side in SIDES
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
    lines += [f"  {line}" for line in _beside(entries[-1])]
    lines += [f"  {line}" for line in off_by(entries)]
    return "\n".join(lines)


def _beside(entry: Mapping[str, Any]) -> Iterator[str]:
    """What is known of the batch as a whole besides its seconds."""
    for name, (what, digits, unit) in WHOLE.items():
        if name in entry and (entry[name]["predicted"] or entry[name]["actual"]):
            predicted, actual = (f"{entry[name][side]:,.{digits}f}" for side in SIDES)
            yield f"{what}: {predicted}{unit} predicted, {actual}{unit} actual"


def off_by(entries: list[dict[str, Any]]) -> list[str]:
    """Which assumptions did not hold, those that changed most first; what is left is speed."""
    found = [fault for entry in entries[:-1] for fault in _faults(entry)]
    lines = [text for _, text in sorted(found, key=lambda fault: -fault[0])[:5]]
    seconds = entries[-1].get("seconds")
    if not lines and seconds and seconds["predicted"]:
        speed = seconds["actual"] / seconds["predicted"]
        if _differ(speed, 1.0):
            what = "slower" if speed > 1 else "faster"
            lines = [f"off: all counts held; the machine was {what} than its costs ({speed:.2f}x)"]
    return lines or ["every assumption held"]


def _faults(entry: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """What was off at one node: how many tokens (or seconds) that makes, and in words."""
    name = entry["node"]
    (calls, prefill, out), (made, computed, generated) = entry["predicted"], entry["actual"]
    length, expected = generated / max(1, made), out / max(1, calls)
    if _differ(calls, made):
        yield abs(made - calls) * max(1.0, length if made else expected), _calls_off(entry)
    if not calls or not made:
        return
    if out and _differ(length, expected):
        yield (
            abs(length - expected) * made,
            f"off: answers of {name} had {length:.0f} tokens, not {expected:.0f}",
        )
    prompt, assumed = computed / made, prefill / calls
    if prefill and _differ(prompt, assumed):
        yield (
            abs(prompt - assumed) * made / 10,
            f"off: a call of {name} computed {prompt:.0f} prompt tokens, not {assumed:.0f}: "
            "values in its prompt are longer or shared less, or the reverse",
        )
    each = entry.get("seconds_each")
    if each and not generated and not out:
        actual, said = each["actual"], each["predicted"]
        if _differ(actual, said) and abs(actual - said) > LEAST_SECONDS:
            rather = f"not {said:.3f} s" if said else "and nothing was known of it"
            yield abs(actual - said) * 1e3, f"off: {name} took {actual:.3f} s, {rather}"


def _calls_off(entry: Mapping[str, Any]) -> str:
    name, calls, made = entry["node"], entry["predicted"][0], entry["actual"][0]
    if not calls:
        return f"off: {name} made {made:,} calls, and none were foreseen"
    if entry.get("turns") and made:
        return f"off: {name} took {made:,} turns, not {calls:,}"
    why = "fewer values were equal" if made > calls else "more values were equal"
    return f"off: {name} made {made:,} calls, not {calls:,}: {why}, or branches went otherwise"


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > OFF * max(abs(one), abs(other), 1e-12)


def _cells(entry: Mapping[str, Any]) -> Iterator[str]:
    for predicted, actual in zip(entry["predicted"], entry["actual"], strict=True):
        cell = f"{predicted:,} -> {actual:,}"
        yield f"{cell:>26}"


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
