"""How far a batch is, by the calls of its plan: what they have taken says what is left.

Rows are no measure while all of them are under way together. Answers that have come correct the
lengths of those still to come: an operator's own, or for one that has not answered yet, what the
others had of their max_tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .nodes import Agent

if TYPE_CHECKING:
    from .logical import Plan

SURE = 0.05
"""Doubt that is always left, as a share."""
UNSURE = 0.7


@dataclass(frozen=True, slots=True)
class Expected:
    """One LLM node of a plan."""

    name: str
    calls: int
    """That are made; equal ones once."""
    most: int
    """Tokens of a call's answers."""


@dataclass(frozen=True, slots=True)
class Made:
    """What one node has done so far."""

    calls: int
    tokens: int


def expected(plan: Plan) -> tuple[Expected, ...]:
    """The LLM nodes of a plan; none where values decide how many calls there are."""
    prefixes = plan.prefixes
    if prefixes is None or plan.live or prefixes.unknown or plan.calls()[1]:
        return ()
    if any(isinstance(leaf.call, Agent) for leaf in prefixes.leaves):
        return ()
    return tuple(
        Expected(leaf.name, leaf.calls, leaf.call.sampling.n * leaf.call.sampling.max_tokens)
        for leaf in prefixes.leaves
    )


def seconds_left(
    plan: tuple[Expected, ...], made: Mapping[str, Made], seconds: float
) -> tuple[float, float] | None:
    """Between how many seconds the rest takes, if what is made took `seconds`; None while nothing
    has come."""
    calls = sum(m.calls for m in made.values())
    done = sum(m.tokens for m in made.values())
    if not plan or not calls or not done or seconds <= 0:
        return None
    most = sum(made[e.name].calls * e.most for e in plan if e.name in made)
    usual = done / most if most else 1.0
    left = 0.0
    for node in plan:
        so_far = made.get(node.name, Made(0, 0))
        length = so_far.tokens / so_far.calls if so_far.calls else usual * node.most
        left += max(0, node.calls - so_far.calls) * length
    doubt = min(UNSURE, max(SURE, 2 / math.sqrt(calls)))
    rest = seconds * left / done
    return rest * (1 - doubt), rest * (1 + doubt)
