"""The workflow's DAG with what the plan and the run say of each node, and the same as a table."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...dag.names import counted_name
from ...dag.picture import Box, Picture
from ...dag.picture_json import from_json
from ...dag.svg import drawn
from .charts import short_time
from .facts import Facts
from .markup import e, section, short, table

_LEGEND = (
    "calls: asked for → left once equal ones are merged, then made. prefill: prompt tokens asked "
    "for → left to compute, then computed. engine: seconds that the cost model gives for answers "
    "of this length, then measured; an engine's seconds are shared out among its nodes by their "
    "tokens. The bar is a node's part of all engine seconds."
)
_WIDTH = re.compile(r'<svg [^>]*\bwidth="(\d+)"')
SMALLEST = 0.8
"""How far a wide drawing shrinks before it is scrolled."""
_SHOWN = {"llm", "agent", "tool", "branch", "map", "loop"}
"""Kinds of boxes that a plan has steps for."""


@dataclass(frozen=True, slots=True)
class Account:
    """One node: its step of the plan, its counters of the run, and its prediction."""

    step: Mapping[str, Any]
    ran: Mapping[str, Any]
    predicted: Mapping[str, Any]

    @property
    def made(self) -> int | None:
        """Calls that were really made; None when the node has not run."""
        return int(self.ran["calls"] - self.ran["merged"]) if self.ran else None

    @property
    def computed(self) -> int | None:
        return int(self.ran["prompt_tokens"] - self.ran["cached_tokens"]) if self.ran else None

    @property
    def llm(self) -> bool:
        return "model" in self.step or self.ran.get("operator") in ("LLMCall", "Agent")

    @property
    def prefill(self) -> tuple[int, int] | None:
        """Prompt tokens asked for and left, as the plan that was followed says, else plan.json."""
        for source, asked, left in (
            (self.predicted, "prefill_asked", "prefill"),
            (self.step, "prefill_asked", "prefill_computed"),
        ):
            if asked in source and left in source:
                return source[asked], source[left]
        return None


def accounts(facts: Facts) -> dict[str, Account]:
    """All that is known of every node, by its name."""
    steps = steps_by_name(facts.plan.get("steps", ()))
    ran, predicted = facts.nodes, facts.predicted.get("nodes", {})
    return {
        name: Account(steps.get(name, {}), ran.get(name, {}), predicted.get(name, {}))
        for name in dict.fromkeys((*steps, *ran))
    }


def steps_by_name(steps: Any) -> dict[str, Mapping[str, Any]]:
    """Steps of a plan by the names under which a run counts their nodes."""
    ids: dict[str, str] = {str(step["number"]): str(step["id"]) for step in steps}

    def way(prefix: str) -> tuple[str, ...]:
        if prefix.endswith(".until"):
            return (*way_of(prefix.removesuffix(".until")), "until")
        return way_of(prefix) if prefix else ()

    def way_of(number: str) -> tuple[str, ...]:
        return (*way(number.rpartition(".")[0]), ids.get(number, number))

    return {counted_name(way(str(s["number"]).rpartition(".")[0]), str(s["id"])): s for s in steps}


# -- the drawing -------------------------------------------------------------------------------


def graph(facts: Facts) -> str:
    """The section with the drawing and the table."""
    found = accounts(facts)
    image = _image(facts, found)
    if not image and not found:
        return ""
    data = base64.b64encode(image.encode()).decode()
    size = _WIDTH.search(image)
    least = f' style="min-width:{int(size[1]) * SMALLEST:.0f}px"' if size else ""
    # As an image the drawing keeps to itself: none of its style or script reaches the page.
    shown = (
        f'<div class="drawing"><img{least} alt="the workflow as a graph, with the numbers of the '
        f'table" src="data:image/svg+xml;base64,{data}"></div>' if image else ""
    )  # fmt: skip
    legend = f'<p class="tools">{e(_LEGEND)}</p>' if found else ""
    return section("Plan and run", _sentence(facts) + shown + legend + _table(found))


def _image(facts: Facts, found: Mapping[str, Account]) -> str:
    try:
        shown = from_json(facts.plan["dag"])
    except (KeyError, ValueError):
        return facts.drawing
    engine = sum(a.predicted.get("engine_seconds", 0.0) for a in found.values())
    planned = bool(facts.plan.get("steps"))
    return drawn(_with_numbers(shown, found, engine, planned))


def _with_numbers(
    shown: Picture, found: Mapping[str, Account], engine: float, planned: bool
) -> Picture:
    boxes = []
    for box in shown.boxes:
        inside = tuple(_with_numbers(body, found, engine, planned) for body in box.inside)
        boxes.append(_noted(replace(box, inside=inside), found.get(box.name), engine, planned))
    return replace(shown, boxes=tuple(boxes))


def _noted(box: Box, account: Account | None, engine: float, planned: bool) -> Box:
    if account is None:
        gone = planned and box.kind in _SHOWN
        return replace(box, faint=gone, notes=("left out by the plan",) if gone else ())
    seconds = account.predicted.get("engine_seconds")
    share = seconds / engine if seconds is not None and engine else None
    return replace(box, notes=tuple(_notes(account)), share=share)


def _notes(account: Account) -> Iterator[str]:
    """Calls, prefill and time of a node, a line each, as far as they are known."""
    step, ran, predicted = account.step, account.ran, account.predicted
    if not (account.llm or "effect" in step or ran):
        return
    made = f"made {account.made:,}" if account.made is not None else "not run"
    calls = step.get("calls")
    if calls is not None:
        most = "at most " if step.get("when") == "branch" else ""
        yield f"calls {most}{_to(calls, step.get('merged', calls))}, {made}"
    else:
        yield f"calls as values decide, {made}"
    if account.llm and account.prefill is not None:
        computed = f", computed {account.computed:,}" if account.computed is not None else ""
        yield f"prefill {_to(*account.prefill)}{computed}"
    if "engine_seconds" in predicted:
        guess = f"{short_time(predicted['seconds'])} predicted, " if "seconds" in predicted else ""
        yield f"engine {guess}{short_time(predicted['engine_seconds'])} measured"
    elif ran and account.made:
        yield f"{short_time(ran['seconds'] / account.made)} each"


def _to(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"


# -- the table ---------------------------------------------------------------------------------

NOTHING = "–"
_HEAD = ("node", "calls", "planned", "made", "prefill", "planned", "computed",
         "written", "at most", "engine", "predicted")  # fmt: skip


def _table(found: Mapping[str, Account]) -> str:
    rows = {name: a for name, a in found.items() if a.llm or "effect" in a.step or a.ran}
    if not rows:
        return ""
    cells = [(name, *_cells(account)) for name, account in rows.items()]
    used = [i for i in range(len(_HEAD)) if i == 0 or any(row[i] != NOTHING for row in cells)]
    lines = (
        f"<tr><td>{e(row[0])}</td>" + "".join(f'<td class="n">{row[i]}</td>' for i in used[1:])
        for row in cells
    )
    head = [_HEAD[i] for i in used]
    return table(head, (f"{line}</tr>" for line in lines), right=head[1:])


def _cells(account: Account) -> list[str]:
    step, ran, predicted = account.step, account.ran, account.predicted
    asked, left = account.prefill or (None, None)
    written = ran.get("completion_tokens") if account.llm else None
    seconds = [predicted.get(key) for key in ("engine_seconds", "seconds")]
    calls = _number(step.get("calls", ran.get("calls")))
    most = "≤ " if step.get("when") == "branch" else ""
    planned = _number(step.get("merged", step.get("calls")))
    return [
        most + calls, planned if planned == NOTHING else most + planned, _number(account.made),
        *map(_number, (asked, left, account.computed if account.llm else None)),
        *map(_number, (written, predicted.get("most"))),
        *(NOTHING if s is None else short_time(s) for s in seconds),
    ]  # fmt: skip


def _number(value: int | None) -> str:
    return NOTHING if value is None else short(value)


def _sentence(facts: Facts) -> str:
    """What was predicted of the whole batch, beside what it took."""
    told = facts.predicted
    stats = facts.sessions[-1].get("stats", {})
    if "seconds_before" not in told or "seconds" not in stats:
        return ""
    by = f"bound by {told['bound']}" + (
        f" ({' → '.join(told['path'])})" if told["bound"] == "critical path" else ""
    )
    rough = "" if told["calibrated"] else (
        " The costs are rough guesses: <code>plait doctor --model</code> measures them."
    )  # fmt: skip
    most = "at most " if told["at_most"] else ""
    devices = facts.config.get("settings", {}).get("devices", ())
    on = " on one device" if len(devices) > 1 else ""
    return (
        f"<p>Took <b>{short_time(stats['seconds'])}</b>. Predicted{on} "
        f"<b>{short_time(told['seconds'])}</b> for answers of this length, {e(by)}; before the "
        f"run, {most}{short_time(told['seconds_before'])}.{rough}</p>"
    )
