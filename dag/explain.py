"""A plan as text: what is known before running, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .cost import loads_of
from .steps import Step

if TYPE_CHECKING:
    from .cost import Cost, NodeCost
    from .logical import Plan
    from .prefixes import Prefixes
    from .rehearsed import Outgrown

SHOWN = 96
LINKS = 5
"""Nodes of a long path that are shown at either end."""


def explain(plan: Plan, cost: Cost | None = None, left_out: int = 0) -> str:
    """The plan as text for a terminal; with a rehearsed cost, each node with what it comes to.
    `left_out`: further rows that it is not of, because they have prompts that are too long."""
    others = f", without {left_out} with prompts that are too long" if left_out else ""
    lines = [f"workflow {plan.workflow}: {_count(plan.rows, 'row')}{others}"]
    shown: dict[str, str] = {}
    nodes = cost.rehearsed.nodes if cost is not None and cost.rehearsed is not None else {}
    for step in plan.steps:
        indent = "  " * (step.number.count(".") + 1)
        head = "" if step.operator == "Input" else f"({step.arguments})"
        lines.append(f"{indent}%{step.number} = {step.operator} {step.id}{head}")
        if step.same_as is not None:
            lines.append(f"{indent}     {_calls(step)}: as %{step.same_as}")
            continue
        told = ", ".join(_told(step, nodes.get(step.name)))
        if told:
            lines.append(f"{indent}     {told}")
        if step.prompt:
            first = shown.setdefault(step.prompt, step.number)
            text = _short(step.prompt) if first == step.number else f"as in %{first}"
            lines.append(f"{indent}     prompt: {text}")
    lines += [f"  called while planning: {made}" for made in plan.called]
    if plan.live:
        lines.append("  a live program: its calls are known only when it runs")
    lines.append("total: " + ", ".join(_totals(plan)))
    if nodes:
        asked, computed = (
            sum(getattr(node, name) for node in nodes.values())
            for name in ("prompt_tokens", "prefill_tokens")
        )
        lines.append(f"prefill: {asked:,} tokens in calls to make, {computed:,} to compute")
    elif plan.prefixes is not None and plan.prefixes.asked:
        lines.append("prefill: " + prefill(plan.prefixes))
    if plan.trials is not None and plan.trials.orders > 1:
        lines.append(f"order of rows: {plan.trials}")
    if plan.placement is not None:
        lines.append(plan.placement.explain())
    return "\n".join(lines)


def _told(step: Step, node: NodeCost | None = None) -> Iterator[str]:
    """What is known of a step before running, and of its `node` in a rehearsal."""
    if step.model is not None:
        yield f"model {step.model}, at most {step.max_tokens} tokens"
    if step.effect is not None:
        yield f"{step.effect} tool"
    if step.limit is not None:
        unit = {"Agent": "turn", "Map": "item", "PlanAndRun": "task"}.get(step.operator, "round")
        yield f"at most {_count(step.limit, unit)}"
    if step.model is not None or step.effect is not None:
        yield _calls(step)
    if node is not None:
        if node.calls != step.calls or node.calls - node.merged != step.merged:
            made = node.calls - node.merged
            yield f"about {made:,}{' turns' if step.operator == 'Agent' else ''} to make"
        if step.model is not None:
            yield f"prefill {node.prompt_tokens:,} -> {node.prefill_tokens:,}"
            yield f"decode {node.generated_tokens:,}"
        if node.seconds:  # a tool of which nothing is known is expected to take no time
            yield f"{seconds_text(node.seconds)} each"
    elif step.prefill_asked is not None and step.prefill_asked != step.prefill_computed:
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
    others = 0 if step.same_as is not None else others
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
    most = "at most " if cost.known == "limit" and cost.decode_tokens else ""
    between = f" ({seconds_text(cost.low)} to {seconds_text(cost.high)})" if cost.high else ""
    parts = f"prefill {cost.prefill_seconds:.2f} s, decode {cost.decode_seconds:.2f} s"
    steps = f"{round(cost.decode_tokens):,} tokens in {round(cost.decode_steps):,} steps"
    tools = f", tools {seconds_text(cost.tool_seconds)} of it" if cost.tool_seconds else ""
    whole = f"{cost.seconds:.2f} s{between}"
    path = f"{cost.path_seconds:.2f} s{WITHOUT if cost.agents else ''}{tools}"
    return "\n".join((
        f"expected: {whole}, bound by {cost.bound}: {parts}, {_loads(cost)}",
        f"generate: {most}{steps}; {KNOWN[cost.known]}, {COSTS[cost.measured]}",
        f"critical path: {path}: {chain(cost.path)}",
        *_workers(cost),
        *_tools(cost),
        *_memory(cost),
    ))  # fmt: skip


def _loads(cost: Cost) -> str:
    """Loads of models; those that are there when the first row begins take none of the seconds."""
    if not cost.loads:
        asks = cost.prefill_tokens or cost.decode_tokens
        return "each model loaded once before the first row" if asks else "no model load"
    count = _count(loads_of(cost.loads, cost.workers), "model load")
    but = "all but the first in " if cost.workers > 1 else ""
    return f"{count} {but}{cost.load_seconds:.2f} s ({' -> '.join(cost.loads)})"


WITHOUT = " without what its agents call"
KNOWN = {
    "given": "lengths of answers as given",
    "history": "lengths of answers as in earlier runs",
    "sample": "lengths of answers as in the calls that have finished",
    "limit": "answers that nothing is known of take max_tokens",
}
COSTS = {True: "costs measured here", False: "costs not measured here (--calibrate)"}


def _workers(cost: Cost) -> Iterator[str]:
    found = cost.rehearsed
    if found is not None and cost.workers > 1:
        busiest = f"the busiest computes {seconds_text(found.busy_seconds)}"
        yield f"workers: {cost.workers}, {busiest}; all are taken to be like the first"


def _tools(cost: Cost) -> Iterator[str]:
    found = cost.rehearsed
    if found is not None and found.tool_calls:
        calls = _count(found.tool_calls, "call")
        known = f"{seconds_text(found.tool_seconds)} all together" if found.tool_seconds else (
            "nothing is known of how long they take"
        )  # fmt: skip
        yield f"tools: {calls} to make, {known}"


def _memory(cost: Cost) -> Iterator[str]:
    """KV and waiting."""
    kept = f"{round(cost.kv_tokens):,} tokens, {cost.kv_bytes / 2**20:,.1f} MiB in all"
    found = cost.rehearsed
    if found is None:
        yield f"KV kept: {kept}"
        return
    held = f"{found.kv_peak_tokens:,} tokens at the peak, {found.kv_page_seconds:,.0f} page-seconds"
    lost = f"; {found.evicted_tokens:,} evicted" if found.evicted_tokens else ""
    yield f"KV held: {held}{lost}; kept: {kept}"
    if found.host_tokens and found.evicted_tokens:
        out, back = seconds_text(found.offload_seconds), seconds_text(found.restore_seconds)
        gone, came = f"{found.offloaded_tokens:,} tokens", f"{found.restored_tokens:,}"
        yield f"KV on the host: {gone} offloaded in {out}, {came} restored in {back}"
    if found.outgrown is not None:
        yield _outgrown(found.outgrown, found.failed_calls)
    # Where no tool runs, it is the time from one call to the next.
    if found.tool_seconds and found.idle_seconds > cost.seconds / 100:
        yield f"waiting: {seconds_text(found.idle_seconds)} in which only tools run"


def _outgrown(one: Outgrown, calls: int) -> str:
    others = f" (and {_count(calls - 1, 'other call')})" if calls > 1 else ""
    return (
        f"too long: {one.node}, row {one.row!r}{others}: prompt and answer would have "
        f"{one.tokens:,} tokens, and the KV memory of model {one.model!r} has room for "
        f"{one.room:,}: give more --kv-memory"
    )


def seconds_text(seconds: float) -> str:
    """Seconds with as many digits as say something."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"


def chain(path: Sequence[str], arrow: str = " -> ") -> str:
    """The nodes of a path; of a long one its beginning and its end."""
    ends = [*path[:LINKS], f"… {len(path) - 2 * LINKS} more …", *path[-LINKS:]]
    return arrow.join(path if len(path) <= 2 * LINKS + 1 else ends)


def one_line(text: str) -> str:
    return " ".join(text.split())


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
