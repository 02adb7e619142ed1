"""The batch as a whole: what was predicted of it beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...dag.cost import loads_of
from ...dag.explain import WITHOUT, chain
from .accounts import Account
from .charts import short_time
from .facts import Facts
from .markup import arrow, e

UNKNOWN, UNMEASURED = "not predicted", "not measured"
Cells = tuple[str, str, str]
"""What it is, what was predicted, what was measured."""


def whole_table(facts: Facts, found: Mapping[str, Account]) -> str:
    """The batch as a whole; nothing for a run of which nothing is known."""
    if not facts.nodes:
        return ""
    alone = _devices(facts) > 1 and facts.cost.get("workers", 1) == 1
    on = " on one device" if alone else ""
    head = f"<tr><th></th><th>predicted{on}</th><th>measured</th></tr>"
    lines = "".join(
        f"<tr><th>{e(what)}</th><td>{e(predicted)}</td><td>{e(actual)}</td></tr>"
        for what, predicted, actual in _whole(facts, [a for a in found.values() if a.calling])
    )
    notes = " ".join(_notes(facts))
    return f'<table class="whole">{head}{lines}</table><p class="tools">{e(notes)}</p>'


def _whole(facts: Facts, nodes: list[Account]) -> Iterator[Cells]:
    cost, measured = facts.cost, facts.measured
    rehearsed = cost.get("rehearsed") or {}
    most = "at most " if cost.get("known") == "limit" else ""
    between = f" ({short_time(cost['low'])} to {short_time(cost['high'])})" if cost else ""
    yield _row("time", cost.get("seconds"), facts.wall, short_time, between)
    if "seconds" in facts.predicted and len(facts.sessions) == 1:
        known = short_time(facts.predicted["seconds"])
        on = ", on one device" if _devices(facts) > 1 else ""
        yield f"time, had lengths of answers been known{on}", known, short_time(facts.wall)
    llms, tools = [a for a in nodes if a.llm], [a for a in nodes if not a.llm]
    for what, mine in (("calls of models", llms), ("calls of tools", tools)):
        if mine:
            yield what, _planned(mine, "calls"), _done(mine, "calls", "made")
    if llms:
        what = "prompt tokens, asked for → computed"
        yield what, _planned(llms, "prefill"), _done(llms, "prompt_tokens", "computed")
        written = sum(a.written or 0 for a in llms)
        yield _row("generated tokens", cost.get("decode_tokens"), written, _count, before=most)
        yield from _engine(cost, measured)
    if tools:
        took = sum(a.ran.get("seconds", 0.0) for a in tools)
        path = f", {short_time(cost['tool_seconds'])} on the critical path" if cost else ""
        summed = rehearsed.get("tool_seconds") or None  # none: of tools that nobody knows
        yield _row("tools, all calls together", summed, took, short_time, path)
    if llms:
        peak = rehearsed.get("kv_peak_tokens")
        yield _row("KV tokens at the peak", peak, measured.get("kv_peak_tokens"), _count)
        yield _loads(facts)
    path = UNKNOWN
    if cost:
        without = WITHOUT if cost.get("agents") else ""
        path = f"{short_time(cost['path_seconds'])}{without}: {chain(cost['path'], ' → ')}"
    yield "critical path of a row, alone", path, UNMEASURED
    busy, time = measured.get("step_seconds"), facts.wall * _devices(facts)
    share = f"engine at work {busy / time:.0%} of the time" if busy and time else UNMEASURED
    yield "bound by", cost.get("bound", UNKNOWN), share


def _devices(facts: Facts) -> int:
    return len(facts.config.get("settings", {}).get("devices", ())) or 1


def _engine(cost: Mapping[str, Any], measured: Mapping[str, float]) -> Iterator[Cells]:
    parts = {part: cost.get(f"{part}_seconds", 0.0) for part in ("prefill", "decode")}
    each = ", ".join(f"{part} {short_time(seconds)}" for part, seconds in parts.items())
    predicted = sum(parts.values()) if cost else None
    yield _row("engine at work", predicted, measured.get("step_seconds"), short_time, f": {each}")
    yield _row("engine steps", cost.get("decode_steps"), measured.get("steps"), _count)


def _loads(facts: Facts) -> Cells:
    cost, actual = facts.cost, facts.measured.get("loads")
    if not cost:
        predicted = UNKNOWN
    elif cost["loads"]:
        count = loads_of(cost["loads"], cost["workers"])
        but = "all but the first in " if cost["workers"] > 1 else ""
        order = chain(cost["loads"], " → ")
        predicted = f"{count}, {but}{short_time(cost['load_seconds'])}: {order}"
    else:
        predicted = "each model once, before the first row"
    return "model loads", predicted, UNMEASURED if actual is None else _count(actual)


def _row(
    what: str, predicted: float | None, actual: float | None, told: Callable[[float], str],
    more: str = "", before: str = "",
) -> Cells:  # fmt: skip
    return (
        what, UNKNOWN if predicted is None else before + told(predicted) + more,
        UNMEASURED if actual is None else told(actual),
    )  # fmt: skip


def _planned(nodes: list[Account], what: str) -> str:
    """Sums of what is asked for and of what is left of it."""
    pairs = [pair for pair in (getattr(a, what) for a in nodes) if pair is not None]
    if not pairs:
        return UNKNOWN
    most = "at most " if any(a.branch for a in nodes) else ""
    more = ", and more as values decide" if len(pairs) < len(nodes) else ""
    return most + arrow(sum(a for a, _ in pairs), sum(b for _, b in pairs)) + more


def _done(nodes: Iterable[Account], asked: str, left: str) -> str:
    done = [(a.ran[asked], getattr(a, left) or 0) for a in nodes if a.ran]
    return arrow(sum(a for a, _ in done), sum(b for _, b in done))


def _count(number: float) -> str:
    return f"{round(number):,}"


def _notes(facts: Facts) -> Iterator[str]:
    """How sure the prediction is, or why there is none."""
    cost = facts.cost
    if not cost:
        yield f"Not predicted: {_why_not(facts)}."
        if facts.plan.get("steps"):
            yield "Calls and prompt tokens are those of the plan, tokens by their characters."
        return
    rehearsed = cost["rehearsed"]
    left_out = facts.sessions[-1].get("left_out", 0)
    if left_out:
        yield f"Predicted is the batch without {left_out:,} rows whose prompts are too long."
    if rehearsed is None:
        yield f"The plan's work is summed up, not rehearsed, as {_why_summed(facts)}."
        if len(facts.sessions) > 1:
            yield "Predicted is the last start."
    elif rehearsed["rows"] < facts.rows - left_out:
        yield f"Rehearsed were {rehearsed['rows']:,} rows; all are reckoned from them."
    if len(facts.sessions) > 1:
        yield f"Measured are all {len(facts.sessions)} starts together."
    if cost["known"] == "limit":
        yield "Answers that nothing was known of were taken to be max_tokens long."
    if not cost["measured"]:
        yield "Costs of this machine are rough guesses: plait doctor --model measures them."
    if rehearsed is not None:
        yield (
            "KV: predicted are the tokens of calls under way; measured, ten times a second, are "
            "their pages, with the room kept for answers."
        )


def _why_summed(facts: Facts) -> str:
    if facts.status != "complete":
        return "the run has not come to its end"
    return "no device held all of its models at the end"


def _why_not(facts: Facts) -> str:
    settings = facts.config.get("settings", {})
    if settings.get("backend") == "fake":
        return "a fake model has no costs"
    if facts.plan.get("live"):
        return "the calls of a live program are known only when it runs"
    if not settings.get("plan", True):
        return "there was no plan"
    if facts.sessions[-1].get("left_out"):
        return "all rows have prompts that are too long"
    return "no costs of its models are known"
