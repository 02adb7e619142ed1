"""Which of several workers takes a call: the one that has its prefix, while that has no more calls
than its share.

Policy only: no clock, no models. Calls that begin alike go to the worker that had one of them last,
because their common KV is there. A worker with more than its share of the calls under way is passed
over, so a popular prefix spreads, and with it its model: a worker that idles takes a call even when
it must load the model first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence

SHARE = 1.25
"""A worker may have so many times the mean of the calls under way."""
SLACK = 4
"""And so many more: a few calls are no reason to load a model twice."""
REMEMBERED = 10_000
"""Beginnings of prompts whose worker is remembered."""


class Routes:
    """Calls under way on each worker, and where beginnings of prompts were seen last."""

    def __init__(self, workers: int) -> None:
        self.under_way = [0] * workers
        self._last: OrderedDict[Hashable, int] = OrderedDict()

    def choose(self, key: Hashable, there: Sequence[bool]) -> int:
        """The worker of a call that begins with `key`. `there`: by worker, whether it has the
        call's model loaded. To be followed by `begins`."""
        free = [worker for worker in range(len(there)) if self.has_room(worker)]
        last = self._last.get(key)
        if last is None or last not in free or not there[last]:
            last = min(free, key=lambda w: (not there[w], self.under_way[w]))
        self._last[key] = last
        self._last.move_to_end(key)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return last

    def has_room(self, worker: int) -> bool:
        """Whether a worker may take one more call."""
        calls = self.under_way
        return calls[worker] < math.ceil(SHARE * (sum(calls) + 1) / len(calls)) + SLACK

    def begins(self, worker: int) -> None:
        self.under_way[worker] += 1

    def ends(self, worker: int) -> None:
        self.under_way[worker] -= 1
