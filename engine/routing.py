"""Which of several workers takes a call: the one that has its prefix, while that has no more calls
than its share.

Policy only: no clock, no models. Calls that begin alike go to the worker that had one of them last,
because their common KV is there. A worker with more than its share of the calls under way is passed
over, so a popular prefix spreads, and with it its model: a worker that idles takes a call even when
it must load the model first. Where a plan has placed the model, only the workers that it is placed
on load it; whoever has it anyway takes calls as well.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence

SHARE = 1.25
"""A worker may have so many times the mean of the calls under way."""
SLACK = 4
"""And so many more: a few calls are no reason to load a model twice."""
REST = 0.05
"""Seconds after which a worker without calls is taken to idle: a call that ends is often followed
by another of the same row."""
REMEMBERED = 10_000
"""Beginnings of prompts whose worker is remembered."""


class Routes:
    """Calls under way on each worker, and where beginnings of prompts were seen last."""

    def __init__(self, workers: int) -> None:
        self.under_way = [0] * workers
        self._last: OrderedDict[Hashable, int] = OrderedDict()

    def choose(
        self, key: Hashable, there: Sequence[bool], placed: Collection[int] | None = None,
        rather: int | None = None,
    ) -> int:  # fmt: skip
        """The worker of a call that begins with `key`. `there`: by worker, whether it has the
        call's model loaded; `placed`: the workers that the plan gives it, None where it gives none;
        `rather`: who has more of its prompt than others. To be followed by `begins`."""
        may = [w for w, has in enumerate(there) if has or placed is None or w in placed]
        free = [worker for worker in may if self.room(worker, may) > 0]
        last = rather if rather is not None else self._last.get(key)
        if last is None or last not in free or not there[last]:
            last = min(free, key=lambda w: (not there[w], self.under_way[w]))
        self._last[key] = last
        self._last.move_to_end(key)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return last

    def room(self, worker: int, among: Collection[int] | None = None) -> int:
        """How many more calls a worker may take, as one of those that could."""
        calls = self.under_way
        others = range(len(calls)) if among is None else among
        mean = (sum(calls[w] for w in others) + 1) / len(others)
        return math.ceil(SHARE * mean) + SLACK - calls[worker]

    def begins(self, worker: int) -> None:
        self.under_way[worker] += 1

    def ends(self, worker: int) -> None:
        self.under_way[worker] -= 1
