"""Pure tools whose arguments no row has a say in, called while a batch is planned.

As a database does with immutable functions: what they give is a constant, and what is made of it is
folded further (`fold_constants`). They are called as in a run, in few seconds and few at most. One
that fails, takes too long or gives too much stays a call, and says so in the rows that ask for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Hashable, Iterable
from typing import Any
from weakref import WeakSet

from ..dag.estimates import Estimates
from ..dag.keys import value_key
from ..dag.known import NOTHING, Known, KnownCall, Made
from ..dag.logical import Part, Plan
from ..dag.nodes import Workflow
from ..dag.rules.fold_constants import calls_to_make, fold_constants
from ..tools.runner import run_tool
from .bridge import LoopThread
from .run import NodeStats, Span, Stats
from .single_flight import size_of

CALL_SECONDS = 0.5
"""For one call; those that need nothing of each other are made at the same time."""
ALL_SECONDS = 2.0
"""For all calls of a plan."""
MOST = 16
"""Calls made for one plan."""
MOST_BYTES = 1 << 16
"""Of a text that a plan takes in."""
COPIED_BYTES = 1 << 12
"""Of any other value: it is copied for every reader."""
ROW = "planning"
"""Stands for the row in the timeline."""
_SLOW: WeakSet[Any] = WeakSet()
"""Tools that took longer in this process: planning does not wait for them again."""


async def make_known_calls(
    batches: Iterable[tuple[Workflow, int]], disable: Collection[str] = (),
    expected: Estimates | None = None,
) -> Known:  # fmt: skip
    """What comes of the calls that need no row, in workflows that run together for so many rows.

    They run on the loop of the caller, which is to be that of the run: an async tool may hold on to
    the first loop it sees. Tools that are `expected` to take longer than there is time are not
    called. Raises nothing of what tools raise.
    """
    if fold_constants.__name__ in disable:
        return NOTHING
    plan = Plan(tuple(Part(workflow, rows, ()) for workflow, rows in batches))
    made: dict[Hashable, Made] = {}
    tried: set[Hashable] = set()
    end = time.perf_counter() + ALL_SECONDS
    while (left := end - time.perf_counter()) > 0:
        found: dict[Hashable, KnownCall] = {}
        for call in calls_to_make(_with(plan, made)):
            if call.key not in tried and _quick(call, expected):
                found.setdefault(call.key, call)
        calls = [*found.values()][: MOST - len(tried)]
        if not calls:
            break
        tried.update(call.key for call in calls)
        made |= {one.call.key: one for one in await _made(calls, min(CALL_SECONDS, left))}
    return made


def make_known_calls_now(
    batches: Iterable[tuple[Workflow, int]], disable: Collection[str] = (),
    expected: Estimates | None = None,
) -> Known:  # fmt: skip
    """The same where no loop runs and nothing will run afterwards."""
    loop = LoopThread()
    try:
        return loop.run(make_known_calls(batches, disable, expected))
    finally:
        loop.close()


def count(stats: Stats, made: Iterable[Made]) -> None:
    """Count calls that were made while planning like any others, once each."""
    for one in made:
        name = one.call.name
        counted = stats.nodes.setdefault(name, NodeStats("ToolCall"))
        counted.calls += 1
        counted.seconds += one.seconds
        counted.seen.seconds.add(one.seconds)
        stats.result(name, one.value, one.call.arguments)
        start = one.start - stats.started
        stats.spans.append(Span(name, "ToolCall", ROW, start, start + one.seconds, True))


def _with(plan: Plan, made: Known) -> Plan:
    return Plan(plan.parts, known=made)


def _quick(call: KnownCall, expected: Estimates | None) -> bool:
    if call.node.tool.run in _SLOW:
        return False
    return expected is None or expected.tool(call.node).mean <= CALL_SECONDS


async def _made(calls: Iterable[KnownCall], seconds: float) -> list[Made]:
    """Those of the calls that come to something in this time."""
    tasks = {asyncio.ensure_future(_make(call)): call for call in calls}
    try:
        done, late = await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:  # not waited for: a tool may take its time to end
            task.cancel()
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
    if seconds >= CALL_SECONDS:
        _SLOW.update(tasks[task].node.tool.run for task in late)
    good = [t.result() for t in tasks if t in done and not t.cancelled() and not t.exception()]
    return [one for one in good if _is_constant(one.value)]


def _is_constant(value: Any) -> bool:
    """Whether a plan takes a value in: one that can be told from others, and not much to copy."""
    try:
        value_key(value)
        return size_of(value) <= (MOST_BYTES if type(value) is str else COPIED_BYTES)
    except Exception:  # no key, or a value's own code
        return False


async def _make(call: KnownCall) -> Made:
    start = time.perf_counter()
    value = await run_tool(call.node.tool.run, call.arguments, node=call.name)
    return Made(call, value, start, time.perf_counter() - start)
