"""Orders of a small batch, tried in virtual time: the quickest one is taken.

`ordering` counts tokens. In a batch of a few rows other things weigh as much: the tool of the row
that comes last, behind which nobody has work, or a step that began just before another call came.
A rehearsal knows them, and a small batch can be rehearsed many times. No clock is read here either:
what may be tried is bounded by what that work takes on a slow machine.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from .estimates import Estimate, Estimates, operator_key
from .imagined import Imagination
from .keys import value_key
from .logical import Plan, positions
from .names import named_nodes
from .nodes import Const, LLMCall, ToolCall
from .numbering import Row
from .ordering import Order, search
from .rehearsal import Stage, rehearse
from .rehearsed import Rehearsed
from .rules.order_rows import order_rows

ORDERS = 24
"""Most orders that are rehearsed."""
BUDGET = 0.2
"""Seconds that these rehearsals take together at most, as far as can be told before."""
CALL, PROMPT, GENERATED = 4e-4, 2e-7, 5e-6
"""Seconds that a rehearsal takes for a call, a token of its prompts and one that it generates, on a
slow machine: what is tried does not depend on the machine, so the same batch gets the same plan."""
LEAST = 3
"""Where there is no time for so many orders, none is rehearsed."""
ROWS = int(BUDGET / LEAST / CALL)
"""Of a batch with more there never is."""
DRAWN = 10
"""Orders drawn by lot, of which the best is improved."""
LOST = 0.005
"""Share of the seconds that the first order must lose for others to be tried, and by which those
drawn must differ for more."""
GAIN = 0.01
"""Share that another order must save to be taken: a rehearsal is not exact."""
PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Trials:
    """What a batch takes in virtual time, by the order in which its rows start."""

    orders: int
    """That were rehearsed."""
    every: bool
    """Whether all others are like one of these."""
    seconds: float
    """With the order that was taken."""
    by_tokens: float
    """With the one that computes fewest tokens."""
    as_given: float | None
    """With the rows as they come; None where that was not rehearsed."""
    slowest: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.orders == 1:
            return f"by tokens, {self.seconds:.4g} s expected: no other was worth trying"
        which = "all that differ" if self.every else "those a search came to"
        given = f", as given {self.as_given:.4g} s" if self.as_given is not None else ""
        taken = "by tokens, as nothing saves much" if self.seconds == self.by_tokens else "quickest"
        return (
            f"{taken}, {self.seconds:.4g} s expected; {self.orders} rehearsed ({which}): "
            f"by tokens {self.by_tokens:.4g} s{given}, the slowest {self.slowest:.4g} s"
        )


class _Tried:
    """Rehearsals of a plan, one for each order of its rows that is asked for, up to a number.

    Rows that hold the same are alike: orders that only exchange them are one.
    """

    def __init__(
        self, plan: Plan, rows: Sequence[Row | None], rehearsed: Callable[[Plan], Rehearsed]
    ) -> None:
        self._plan, self._rehearsed = plan, rehearsed
        self._alike = [value_key(dict(row) if row is not None else None) for row in rows]
        self.most = 1
        self.found: dict[tuple[Hashable, ...], float] = {}

    def begin(self, order: Order) -> Rehearsed:
        """Rehearse the first order."""
        first = self._rehearsed(ordered(self._plan, order))
        self.found[self._key(order)] = first.seconds
        return first

    def seconds(self, order: Order) -> float:
        """Until the last answer; infinite where there is no time to find out."""
        key = self._key(order)
        if key not in self.found:
            if len(self.found) >= self.most:
                return math.inf
            self.found[key] = self._rehearsed(ordered(self._plan, order)).seconds
        return self.found[key]

    def orders(self, most: int) -> list[Order]:
        """The orders that there are, the first `most` of them."""
        return list(islice(unlike(self._alike), most))

    def _key(self, order: Order) -> tuple[Hashable, ...]:
        return tuple(map(self._alike.__getitem__, order))


def tried(
    plan: Plan, rows: Sequence[Row | None], estimates: Estimates, stage: Callable[[], Stage],
    texts: Imagination, budget: float = BUDGET,
) -> Plan:  # fmt: skip
    """The plan with the quickest of the orders that there is time to rehearse, its own among them;
    the plan as it is where it is too large, or where its order must stay.

    `rows` are those of its one part; `stage` gives a stage with empty caches, `texts` reads what
    rows hold, `budget` are the seconds that rehearsals may take, if less than `BUDGET`. All calls
    of an operator are taken to be of one length: which row has the longest answer is not known, and
    no order shall be chosen for it.
    """
    if not may_try(plan, rows, estimates, budget):
        return plan
    known = _even(plan, estimates)
    trial = _Tried(plan, rows, lambda plan: rehearse(plan, [rows], known, stage(), texts))
    own, as_given = tuple(positions(plan.parts[0])), tuple(range(plan.rows))
    first = trial.begin(own)
    trial.most = _affordable(first, budget)
    best = _quickest(trial, own)
    if trial.seconds(best) > first.seconds * (1 - GAIN):
        best = own
    found = trial.found.values()
    told = Trials(
        len(found), len(found) == len(trial.orders(ORDERS + 1)), trial.seconds(best), first.seconds,
        given if (given := trial.seconds(as_given)) < math.inf else None, max(found),
    )  # fmt: skip
    return replace(ordered(plan, best), trials=told)


def ordered(plan: Plan, order: Order) -> Plan:
    """A plan of one part whose rows start in this order."""
    column = None if list(order) == list(range(plan.rows)) else array("i", order)
    return replace(plan, parts=(replace(plan.parts[0], order=column),))


def unlike(alike: Sequence[Hashable]) -> Iterator[Order]:
    """All orders of rows, given what each row holds: of those that only exchange rows that hold the
    same, one."""
    left: dict[Hashable, list[int]] = {}
    for place in reversed(range(len(alike))):
        left.setdefault(alike[place], []).append(place)
    order: list[int] = []

    def orders() -> Iterator[Order]:
        if len(order) == len(alike):
            yield tuple(order)
        for places in left.values():
            if places:
                order.append(places.pop())
                yield from orders()
                places.append(order.pop())

    return orders()


def may_try(
    plan: Plan, rows: Collection[Row | None], estimates: Estimates, budget: float = BUDGET
) -> bool:
    """Whether orders of a plan's rows can be told apart in so many seconds: something is known of
    the length of every call, no values decide how many there are, and none runs code of its own
    when it is shown."""
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
        calls += made
        generated += made * length.mean if isinstance(node, LLMCall) else 0.0
    if _affords(budget, calls, plan.prefixes.merged, generated) < LEAST:
        return False
    values = [node.value for node in nodes.values() if isinstance(node, Const)]
    values += [i.default for i in plan.parts[0].workflow.inputs if i.default is not ...]
    return all(map(_plain, (*rows, *values)))


def _quickest(trial: _Tried, own: Sequence[int]) -> Order:
    """The quickest order that is found from its own, the rows as given, and some drawn by lot."""
    rng = random.Random(0)
    as_given = range(len(own))
    starts = [own, as_given, *(rng.sample(own, len(own)) for _ in range(DRAWN))]
    drawn = list(map(trial.seconds, starts[: trial.most]))
    if max(drawn) - min(drawn) < LOST * max(drawn):
        trial.most = len(trial.found)
    elif len(orders := trial.orders(trial.most + 1)) <= trial.most:
        starts += orders
    return search(starts, trial.seconds, 8 * trial.most)


def _affordable(first: Rehearsed, budget: float) -> int:
    """How many orders may be rehearsed, given what the first one has come to."""
    return max(1, min(ORDERS, _affords(budget, *_work(first)))) if _loses(first) else 1


def _loses(first: Rehearsed) -> bool:
    """Whether time passes in which only tools run, or KV is evicted."""
    evicted = any(used.evicted_tokens for used in first.used.values())
    return evicted or first.waited > LOST * first.seconds


def _work(found: Rehearsed) -> tuple[float, float, float]:
    """Calls, prompt tokens and tokens of answers of one rehearsal."""
    tasks = found.nodes.values()
    calls = sum(task.calls - task.merged for task in tasks)
    return calls, sum(task.prompt for task in tasks), sum(task.generated for task in tasks)


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
