"""A plan as text: what is known before running, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .steps import Step

if TYPE_CHECKING:
    from .cost import Cost
    from .logical import Plan
    from .prefixes import Prefixes

SHOWN = 96


def explain(plan: Plan) -> str:
    """The plan as text for a terminal."""
    lines = [f"workflow {plan.workflow}: {_count(plan.rows, 'row')}"]
    shown: dict[str, str] = {}
    for step in plan.steps:
        indent = "  " * (step.number.count(".") + 1)
        head = "" if step.operator == "Input" else f"({step.arguments})"
        lines.append(f"{indent}%{step.number} = {step.operator} {step.id}{head}")
        told = ", ".join(_told(step))
        if told:
            lines.append(f"{indent}     {told}")
        if step.prompt:
            first = shown.setdefault(step.prompt, step.number)
            text = _short(step.prompt) if first == step.number else f"as in %{first}"
            lines.append(f"{indent}     prompt: {text}")
    if plan.live:
        lines.append("  a live program: its calls are known only when it runs")
    lines.append("total: " + ", ".join(_totals(plan)))
    if plan.prefixes is not None and plan.prefixes.asked:
        lines.append("prefill: " + prefill(plan.prefixes))
    return "\n".join(lines)


def _told(step: Step) -> Iterator[str]:
    if step.model is not None:
        yield f"model {step.model}, at most {step.max_tokens} tokens"
    if step.effect is not None:
        yield f"{step.effect} tool"
    if step.limit is not None:
        unit = {"Agent": "turn", "Map": "item"}.get(step.operator, "round")
        yield f"at most {_count(step.limit, unit)}"
    if step.model is not None or step.effect is not None:
        yield _calls(step)
    if step.prefill_asked is not None and step.prefill_asked != step.prefill_computed:
        yield f"prefill {step.prefill_asked:,} -> {step.prefill_computed:,}"
    if step.static_prefix:
        yield f"{_count(step.static_prefix, 'character')} shared in front"
    if step.early is not None:
        yield f"begun before {step.early} is there"
    if step.ahead:
        yield "called before its turn"


def _calls(step: Step) -> str:
    unit = "conversation" if step.operator == "Agent" else "call"
    if step.when == "branch" and step.calls is not None:
        return f"at most {_count(step.calls, unit)}"
    if step.calls is None:
        return f"1 {unit} per {step.when}"
    if step.merged is None or step.merged == step.calls:
        return _count(step.calls, unit)
    # Equal calls are made once; those that a node before makes are not made here at all.
    others = step.distinct - step.merged if step.distinct is not None else 0
    before = f" ({others} made by nodes before)" if others else ""
    return f"{_count(step.calls, unit)} -> {step.merged}{before}"


def _totals(plan: Plan) -> Iterator[str]:
    for unit, tools in (("LLM call", False), ("tool call", True)):
        known, open_ended = plan.calls(tools)
        if known or open_ended:
            merged = plan.merged_calls(tools)
            left = f" -> {merged}" if merged != known else ""
            more = " and more as values decide" if open_ended else ""
            yield _count(known, unit) + left + more
    yield f"{_count(plan.depth, 'call')} deep"
    yield f"models {', '.join(plan.models)}" if plan.models else "no model"


def prefill(prefixes: Prefixes) -> str:
    """Prompt tokens before and after sharing, in one line."""
    asked, merged, computed = (round(n) for n in (
        prefixes.asked, prefixes.merged, prefixes.computed,
    ))  # fmt: skip
    line = f"about {asked:,} tokens asked, {merged:,} in calls to make, {computed:,} to compute"
    if prefixes.unknown:
        line += f"; {_count(prefixes.unknown, 'node')} not counted, prompts known only at run time"
    return line


def told_cost(cost: Cost) -> str:
    """What the cost model says, in a few lines."""
    most = "" if cost.certain else "at most "
    parts = f"prefill {cost.prefill_seconds:.2f} s, decode {cost.decode_seconds:.2f} s"
    order = f" ({' -> '.join(cost.loads)})"
    loads = f", {_count(len(cost.loads), 'model load')} {cost.load_seconds:.2f} s{order}"
    loads = loads if cost.loads else ""
    steps = f"{round(cost.decode_tokens):,} tokens in {round(cost.decode_steps):,} steps"
    tools = f", tools {cost.tool_seconds:.2f} s of it" if cost.tool_seconds else ""
    return "\n".join((
        f"expected: {most}{cost.seconds:.2f} s, bound by {cost.bound}: {parts}{loads}",
        f"generate: {most}{steps}",
        f"critical path: {cost.path_seconds:.2f} s{tools}: {' -> '.join(cost.path)}",
        f"KV kept: {round(cost.kv_tokens):,} tokens, {cost.kv_bytes / 2**20:,.1f} MiB in all",
    ))  # fmt: skip


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
