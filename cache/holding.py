"""How long it pays to keep a conversation's KV while a tool works: a policy without a clock.

Keeping KV for t seconds is worth what computing it anew would take, if the tool is back by then,
and costs the memory that it fills. A pin matters only where memory is short, so memory is priced as
if it were: who fills a tenth of it for a second costs the engine a tenth of a second. The hold is

    the t at which  P(back by t) * recompute - price * t  is largest; 0 if it never is above 0

after Continuum (arXiv 2511.02230), with the price of the memory itself in place of 1. Where nothing
is known of the tool it ends where the price reaches what recomputing costs: whatever the tool then
does, that is at most twice the least that could have been spent (the rule for renting skis).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

Times = Sequence[tuple[float, float]]
"""Seconds, ascending, and the share of all calls that are back by then. Empty: nothing is known."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What was decided, and from which numbers."""

    seconds: float
    back: float | None
    """The share of calls that are back by then; None where nothing is known."""
    recompute: float
    """Seconds of work that are lost without it."""
    price: float
    """Seconds of work that each second of it costs."""

    def __str__(self) -> str:
        costs = f"having it again takes {self.recompute:.3g} s, keeping it {self.price:.3g} s/s"
        if self.back is None:
            return f"kept for {self.seconds:.3g} s: {costs}, nothing is known of the tool"
        if not self.seconds:
            return f"not kept: {costs}, and too little comes back in time"
        return f"kept for {self.seconds:.3g} s: {self.back:.0%} are back by then, {costs}"


def hold_for(awaited: Sequence[Times], recompute: float, price: float) -> Hold:
    """How long to keep what goes on when all that is awaited is there."""
    if not awaited or not all(awaited):
        return Hold(recompute / price if price > 0 else inf, None, recompute, price)
    best = Hold(0.0, 0.0, recompute, price)
    gain = 0.0
    places = [0] * len(awaited)
    for at in sorted({seconds for times in awaited for seconds, _ in times}):
        back = prod(_back(times, at, places, i) for i, times in enumerate(awaited))
        if back * recompute - price * at > gain:
            gain = back * recompute - price * at
            best = Hold(at, back, recompute, price)
    return best


def _back(times: Times, at: float, places: list[int], i: int) -> float:
    """The share that is back by `at`; `places` moves on, as `at` only grows."""
    while places[i] < len(times) and times[places[i]][0] <= at:
        places[i] += 1
    return times[places[i] - 1][1] if places[i] else 0.0


def after(times: Times, elapsed: float) -> Times:
    """What is known of a call that has been going on for so long: the times that are left. Empty
    when it takes longer than any before it."""
    gone = max((share for seconds, share in times if seconds <= elapsed), default=0.0)
    if gone >= 1.0:
        return ()
    return [(s - elapsed, (share - gone) / (1 - gone)) for s, share in times if s > elapsed]
