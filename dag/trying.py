"""Orders of a small batch, and placements of its models, tried in virtual time: the quickest are
taken.

`ordering` counts tokens. In a batch of a few rows other things weigh as much: the tool of the row
that comes last, behind which nobody has work, or a step that began just before another call came.
Where models stand is worked out by a formula that takes rows for many and small (`placement`). A
rehearsal knows better, and a small batch can be rehearsed many times. No clock is read here either:
what may be tried is bounded by what that work takes on a slow machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil, inf
from typing import Any

from .estimates import Estimate, Estimates, operator_key
from .imagined import Imagination
from .logical import Plan, positions
from .names import named_nodes
from .nodes import Const, LLMCall, Node, ToolCall
from .numbering import Row
from .ordering import Order, search
from .placement import Placement
from .rehearsal import Stage, rehearse
from .rehearsals import Rehearsals
from .rehearsed import Rehearsed
from .rules.order_rows import order_rows

ORDERS = 500
"""Most orders that are rehearsed, on all placements together."""
BUDGET = 1.0
"""Seconds that these rehearsals take together at most, as far as can be told before."""
CALL, PROMPT, GENERATED = 3e-4, 2e-7, 5e-6
"""Seconds that a rehearsal takes for a call, a token of its prompts and one that it generates, on a
slow machine: what is tried does not depend on the machine, so the same batch gets the same plan."""
LEAST = 12
"""Where `BUDGET` has no time for so many orders, none is rehearsed."""
ROWS = int(BUDGET / LEAST / CALL)
"""Of a batch with more there never is."""
DRAWN = 10
"""Orders drawn by lot, of which the best is improved."""
PLACES = 5
"""Placements that are tried; of more than twice as many rehearsals half go to placements."""
AT_ONCE = 3
"""Among how many placements, the quickest of those left, the time that is left is divided."""
LOST = 0.005
"""Share of the seconds that the first order must lose for others to be tried, and by which those
drawn must differ for more."""
GAIN = 0.01
"""Share that another order must save to be taken: a rehearsal is not exact."""
PLAIN = (str, int, float, bool, type(None))


def tried(
    plan: Plan, rows: Sequence[Row | None], estimates: Estimates, stage: Callable[[Plan], Stage],
    texts: Imagination, others: Sequence[Placement] = (), seconds: float = inf, share: float = 1.0,
) -> Plan:  # fmt: skip
    """The plan with the quickest of the orders (and placements) that there is time to rehearse, its
    own among them; the plan as it is where it is too large, or where its order must stay.

    `rows` are those of its one part; `stage` gives a stage for a plan, with empty caches; `texts`
    reads what rows hold; `others` are placements that are tried beside its own; of the `seconds`
    that the run is predicted to take, or of those of the first rehearsal once they are known,
    rehearsals may take this `share`, and `BUDGET` at most. All calls of an operator are taken to be
    of one length: which row has the longest answer is not known, and no order shall be chosen for
    it.
    """
    if not may_try(plan, rows, estimates, share * seconds):
        return plan
    known = _even(plan, estimates)
    plans = [plan, *(replace(plan, placement=other) for other in others)]
    trial = Rehearsals(plans, rows, lambda plan: rehearse(plan, [rows], known, stage(plan), texts))
    own = tuple(positions(plan.parts[0]))
    first = trial.begin(own)
    if others or _loses(first):
        run = first.seconds if seconds < inf else inf
        trial.most = max(1, min(ORDERS, _affords(share * run, *_work(plan, first))))
    least, place, best = _best(trial, own)
    if least > first.seconds * (1 - GAIN):
        place, best = 0, own
    told = trial.told(place, best, first, tuple(range(plan.rows)))
    taken = replace(trial.plan(place, best), trials=told)
    if taken.placement is not None and told.placements > 1:
        placement = replace(taken.placement, rehearsed=told.placements)
        return replace(taken, placement=placement)
    return taken


def may_try(
    plan: Plan, rows: Collection[Row | None], estimates: Estimates, budget: float = inf
) -> bool:
    """Whether orders of a plan's rows can be told apart in `BUDGET`, and one rehearsed in `budget`
    seconds: something is known of the length of every call, no values decide how many there are,
    and none runs code of its own when it is shown."""
    if len(plan.parts) != 1 or plan.live or not plan.models or plan.rows < 2:
        return False
    if order_rows.__name__ not in plan.rules or plan.prefixes is None or plan.rows > ROWS:
        return False
    nodes = dict(named_nodes(plan.parts[0].workflow))
    calls = generated = 0.0
    for step in plan.steps:
        node = nodes[step.name]
        if not isinstance(node, LLMCall | ToolCall):
            continue
        length = _length(node, estimates)
        if step.calls is None or length.known == "limit":
            return False
        made = step.calls if step.merged is None else step.merged
        requests = made * _generations(node)
        calls += requests
        generated += requests * length.mean if isinstance(node, LLMCall) else 0.0
    work = calls, plan.prefixes.requested, generated
    if _affords(BUDGET, *work) < LEAST or not _affords(budget, *work):
        return False
    values = [node.value for node in nodes.values() if isinstance(node, Const)]
    values += [i.default for i in plan.parts[0].workflow.inputs if i.default is not ...]
    return all(map(_plain, (*rows, *values)))


def _best(trial: Rehearsals, own: Order) -> tuple[float, int, Order]:
    """The quickest placement and order, and its seconds: those first that are quickest in the own
    order, each with its part of the time that is left."""
    most, found = trial.most, list[tuple[float, int, Order]]()
    places = trial.places(own, max(PLACES, most // 2))
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        done = len(trial.found)
        trial.most = done + ceil((most - done) / min(left, AT_ONCE))
        order = _quickest(trial, place, own)
        found.append((trial.seconds(place, order), place, order))
    return min(found, key=lambda one: one[0])


def _quickest(trial: Rehearsals, place: int, own: Sequence[int]) -> Order:
    """The quickest order on a placement that is found from its own, the rows as given, and some
    drawn by lot."""
    rng, seconds = random.Random(0), partial(trial.seconds, place)
    as_given = range(len(own))
    starts = [own, as_given, *(rng.sample(own, len(own)) for _ in range(DRAWN))]
    drawn = list(map(seconds, starts[: trial.left + 1]))
    if max(drawn) - min(drawn) < LOST * max(drawn):
        trial.most = len(trial.found)
    elif len(orders := trial.orders(trial.most + 1)) <= trial.most:
        starts += orders
    return search(starts, seconds, 8 * trial.most)


def _loses(first: Rehearsed) -> bool:
    """Whether time passes in which only tools run, or KV is evicted."""
    evicted = any(used.evicted_tokens for used in first.used.values())
    return evicted or first.waited > LOST * first.seconds


def _work(plan: Plan, found: Rehearsed) -> tuple[float, float, float]:
    """Calls, prompt tokens and tokens of answers of one rehearsal; a generation is a call here."""
    nodes = dict(named_nodes(plan.parts[0].workflow))
    tasks = [(task, _generations(nodes[name])) for name, task in found.nodes.items()]
    calls = sum((task.calls - task.merged) * n for task, n in tasks)
    prompts = sum(task.prompt * n for task, n in tasks)
    return calls, prompts, sum(task.generated for task, _ in tasks)


def _generations(node: Node) -> int:
    return node.sampling.n if isinstance(node, LLMCall) else 1


def _affords(budget: float, calls: float, prompts: float, generated: float) -> int:
    """How many rehearsals of so much work there is time for."""
    each = max(1.0, calls) * CALL + prompts * PROMPT + generated * GENERATED
    return int(min(budget, BUDGET) / each)


def _even(plan: Plan, estimates: Estimates) -> Estimates:
    """What is expected of every call of an operator alike."""
    nodes = (node for _, node in named_nodes(plan.parts[0].workflow))
    calls = [node for node in nodes if isinstance(node, LLMCall | ToolCall)]
    return replace(
        estimates, given={operator_key(node): _length(node, estimates).mean for node in calls}
    )


def _length(node: LLMCall | ToolCall, estimates: Estimates) -> Estimate:
    return estimates.answer(node) if isinstance(node, LLMCall) else estimates.tool(node)


def _plain(value: Any) -> bool:
    """Whether a value is made of texts, numbers, lists and mappings alone."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(map(_plain, (*value, *value.values())))
    return all(map(_plain, value)) if type(value) in (list, tuple) else type(value) in PLAIN
