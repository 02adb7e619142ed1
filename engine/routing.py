"""Which of several workers takes a call: the one that has its prefix, while that has no more calls
than its share.

Policy only: no clock, no models. Calls that begin alike go to a worker that had one of them before,
because their common KV is there. A worker with more than its share of the calls under way is passed
over, so a popular prefix spreads, and with it its model: a worker that idles takes a call even when
it must load the model first. Where a plan has placed the model, only the workers that it is placed
on load it, and the first few calls are divided among them already; whoever has it anyway takes
calls as well.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence

SHARE = 1.25
"""A worker may have so many times the mean of the calls under way."""
SLACK = 4
"""And so many more where no plan says who has the model: a few calls are no reason to load it
twice."""
REST = 0.05
"""Seconds after which a worker without calls is taken to idle: a call that ends is often followed
by another of the same row."""
REMEMBERED = 10_000
"""Beginnings of prompts whose workers are remembered."""


class Routes:
    """Calls under way on each worker, and where beginnings of prompts have been seen."""

    def __init__(self, workers: int) -> None:
        self.under_way = [0] * workers
        self._seen: OrderedDict[Hashable, set[int]] = OrderedDict()

    def choose(
        self, key: Hashable, there: Sequence[bool], placed: Collection[int] | None = None,
        rather: int | None = None,
    ) -> int:  # fmt: skip
        """The worker of a call that begins with `key`. `there`: by worker, whether it has the
        call's model loaded; `placed`: the workers that the plan gives it, None where it gives none;
        `rather`: who has most of its prompt, which may have a few calls more. To be followed by
        `begins`."""
        may = [w for w, has in enumerate(there) if has or placed is None or w in placed]
        slack, homes = (SLACK, ()) if placed is None else (0, placed)
        free = [worker for worker in may if self.room(worker, may, slack) > 0] or may
        ready = [worker for worker in free if there[worker] or worker in homes]
        seen = self._seen.setdefault(key, set())
        known = [worker for worker in ready if worker in seen]
        chosen = min(known or ready or free, key=lambda w: (self.under_way[w], not there[w]))
        if rather in may and (there[rather] or rather in homes) and self.room(rather, may) > 0:
            chosen = rather
        seen.add(chosen)
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return chosen

    def room(self, worker: int, among: Collection[int] | None = None, slack: int = SLACK) -> int:
        """How many more calls a worker may take, as one of those that could."""
        calls = self.under_way
        others = range(len(calls)) if among is None else among
        mean = (sum(calls[w] for w in others) + 1) / len(others)
        return math.floor(SHARE * mean) + slack - calls[worker]

    def begins(self, worker: int) -> None:
        self.under_way[worker] += 1

    def ends(self, worker: int) -> None:
        self.under_way[worker] -= 1
