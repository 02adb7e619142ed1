"""Whether a worker that idles loads a model that is not placed on it, and takes calls of it.

Policy only: no clock, no models; numbers in, a decision with its reason out. With

    T   seconds of everything that the k workers which the calls wait for have to do
    Q   seconds of the calls that nobody has begun
    L   seconds of loading their model here, 0 where it is
    B   seconds of loading again what must go for it and a plan will ask of this worker

the calls taken come to M = min(Q, (T - k L) / (k + 1)) seconds, so that all end together, and the
others end M / k sooner. What a load does not save by half of what it costs is not worth it: costs
are estimates. A worker that has loaded in vain asks for twice as much the next time, so it cannot
go on loading for nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..dag.explain import seconds_text

WORTH = 0.5
"""A load saves at least this share of what it and the loads it causes take."""
REMEMBERED = 64
"""Steals that are remembered, to be told."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The calls of one model that wait, and the workers they wait for."""

    model: str
    calls: int
    """That nobody has begun."""
    seconds: float
    """Of work in these, for one worker."""
    ahead: float
    """Of everything that these workers have to do, loads and other models' calls included."""
    workers: int
    begun: int = 0
    """Calls that somebody has begun, and that nobody takes over."""


@dataclass(frozen=True, slots=True)
class Chance:
    """A worker that could take them."""

    worker: int
    load: float = 0.0
    """Seconds until it has the model; 0 when it has."""
    out: tuple[str, ...] = ()
    """Models that must go for it."""
    back: float = 0.0
    """Seconds to load those of them again that will be asked of it."""


@dataclass(frozen=True, slots=True)
class Steal:
    """What was decided, and the numbers it was decided by."""

    worker: int
    model: str
    calls: int
    """To take now, or once the model is there."""
    waiting: int
    wait: float
    """Seconds until the last of them would be answered where they are."""
    load: float
    out: tuple[str, ...]
    back: float
    saved: float
    """Seconds by which all are answered sooner."""
    least: float
    """What it must save at least."""
    begun: int = 0
    """Calls that have begun where they are, and stay there."""

    @property
    def worth(self) -> bool:
        return self.calls > 0 and self.saved > 0 and self.saved >= self.least

    @property
    def why(self) -> str:
        parts = [f"loading takes {seconds_text(self.load)}"] if self.load else []
        if self.back:
            parts.append(f"loading {', '.join(self.out)} again {seconds_text(self.back)}")
        what = "loads" if self.load else "has"
        verdict = f"takes {self.calls} of" if self.worth else "leaves"
        need = f", {seconds_text(self.least)} are asked" if self.least else ""
        told = "".join(f"{part}, " for part in parts)
        stay = f" beside {self.begun} that have begun and stay" if self.begun else ""
        return (
            f"worker {self.worker} idles, {what} {self.model!r} and {verdict} {self.waiting} calls "
            f"that nobody has begun and that wait for {seconds_text(self.wait)} elsewhere{stay}: "
            f"{told}saves {seconds_text(max(0.0, self.saved))}{need}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "out": list(self.out), "why": self.why}


def weigh(queue: Queue, chance: Chance, worth: float = WORTH) -> Steal:
    """What it would save if this worker took calls of this queue; see the formula above."""
    k, load = queue.workers, chance.load
    moved = max(0.0, min(queue.seconds, (queue.ahead - k * load) / (k + 1)))
    calls = math.ceil(queue.calls * (moved / queue.seconds)) if queue.seconds > 0 else 0
    return Steal(
        chance.worker, queue.model, calls, queue.calls, queue.ahead / k, load, chance.out,
        chance.back, moved / k - chance.back, worth * (load + chance.back), queue.begun,
    )  # fmt: skip


@dataclass(slots=True)
class _Guest:
    """A model that a worker has loaded for others' calls."""

    model: str
    cost: float
    worked: float = 0.0
    """Seconds of its calls that have ended here."""


class Stealing:
    """The policy of all workers, which remembers what came of earlier loads."""

    def __init__(self, workers: int) -> None:
        self._guests: list[_Guest | None] = [None] * workers
        self._vain = [0] * workers
        self.log: deque[Steal] = deque(maxlen=REMEMBERED)
        """What was stolen last."""
        self.left: Steal | None = None
        """Of what was not worth it, what came nearest."""

    def decide(self, ways: Iterable[tuple[Queue, Chance]]) -> Steal | None:
        """The way that saves most, if any is worth it. It is taken to be followed."""
        found = [weigh(queue, chance, self._worth(chance.worker)) for queue, chance in ways]
        good = [steal for steal in found if steal.worth]
        if not good:
            near = [*found, *([self.left] if self.left is not None else [])]
            self.left = max(near, key=lambda steal: steal.saved - steal.least, default=None)
            return None
        best = max(good, key=lambda steal: steal.saved)
        self.log.append(best)
        if best.load:
            self._vain[best.worker] = self._tried(best.worker)
            self._guests[best.worker] = _Guest(best.model, best.load + best.back)
        return best

    def worked(self, worker: int, model: str, seconds: float) -> None:
        """A call of so much work has ended on a worker."""
        guest = self._guests[worker]
        if guest is not None and guest.model == model:
            guest.worked += seconds

    def dropped(self, worker: int) -> None:
        """A worker did not load what it was to: it had calls of its own again."""
        self._guests[worker] = None

    def _worth(self, worker: int) -> float:
        return WORTH * float(2 ** self._tried(worker))

    def _tried(self, worker: int) -> int:
        """Loads in vain one after the other, up to the last one."""
        guest = self._guests[worker]
        if guest is None:
            return 0
        return self._vain[worker] + 1 if guest.worked < guest.cost else 0
