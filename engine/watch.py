"""How the models of a run stood over time: KV pages and requests, sampled at a bounded rate.

Time comes in from outside. At most `most` samples are kept however long a run takes: when they are
full, every second one goes and the next ones come half as often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..dag.profile import Costs

INTERVAL = 0.1
"""Seconds between samples at first."""
MOST = 600
ON = " on "
"""Between alias and worker, where a backend has several: `default on 1`."""

WORK = ("steps", "step_seconds", "model_seconds", "computed_tokens", "prefill_tokens",
        "generated_tokens", "evicted_tokens", "preemptions")  # fmt: skip
"""Counters that say what a model did; they only grow while it is loaded."""


def alias_and_worker(model: str) -> tuple[str, int | None]:
    """The alias and worker that `default on 1` says, and no worker where none is said. An alias
    may contain `ON` itself: the worker is what comes last."""
    alias, on, worker = model.rpartition(ON)
    return (alias, int(worker)) if on and worker.isdecimal() else (model, None)


class Counted(Protocol):
    """What a sample reads of an engine's counters, beside those of WORK: requests, and pages of
    its KV pool."""

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def free_pages(self) -> int: ...
    @property
    def cached_pages(self) -> int: ...
    @property
    def held_pages(self) -> int: ...


@runtime_checkable
class Watchable(Protocol):
    """A backend that can say how its models stand."""

    def counters(self) -> Mapping[str, Counted]:
        """By model alias (and worker, see `ON`); aliases of one engine once."""
        ...

    def costs(self) -> Mapping[str, Costs]:
        """What computing costs on each model, by alias."""
        ...

    def loads(self) -> Sequence[Loading]:
        """When models were loaded, the last times."""
        ...


@dataclass(frozen=True, slots=True)
class Loading:
    """A load of one model (and worker, see `ON`). Seconds are those of `time.perf_counter`."""

    model: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Sample:
    """How one model stood at one moment. Seconds are the clock's own."""

    at: float
    model: str
    running: int
    waiting: int
    held: int
    """Pages that requests under way use."""
    cached: int
    """Pages kept for prompts to come."""
    free: int


class Watch:
    """Samples of a run, and what its models did in it.

    `before` are the counters of models that were loaded when the run began: what they had done
    until then is not counted.
    """

    def __init__(
        self, before: Mapping[str, Counted] | None = None, interval: float = INTERVAL,
        most: int = MOST,
    ) -> None:  # fmt: skip
        self.samples: list[Sample] = []
        self.interval = interval
        """Seconds between the samples that are kept."""
        self._most, self._next = most, float("-inf")
        self._last = {model: _work(found) for model, found in (before or {}).items()}
        self._work: dict[str, dict[str, float]] = {}
        self._held: dict[str, tuple[int, int]] = {}

    def look(self, now: float, counters: Mapping[str, Counted]) -> None:
        """Note what the models have done and, if it is time to, how they stand."""
        for model, found in counters.items():
            self._count(model, _work(found))
            pages = found.held_pages + found.cached_pages + found.free_pages
            self._held[model] = max(self._held.get(model, (0, 0))[0], found.held_pages), pages
        if now < self._next:
            return
        self._next = now + self.interval * 0.9  # whoever calls is never quite on time
        self.samples += [
            Sample(now, m, c.running, c.waiting, c.held_pages, c.cached_pages, c.free_pages)
            for m, c in counters.items()
        ]
        while len(self.samples) > self._most:
            kept = set(sorted({s.at for s in self.samples})[::2])
            if len(kept) == len({s.at for s in self.samples}):
                break
            self.samples = [s for s in self.samples if s.at in kept]
            self.interval *= 2

    def _count(self, model: str, now: dict[str, float]) -> None:
        before = self._last.get(model, {})
        if now["steps"] < before.get("steps", 0):
            before = {}  # loaded anew in the meantime: its counters began again
        done = self._work.setdefault(model, dict.fromkeys(WORK, 0))
        for name, value in now.items():
            done[name] += value - before.get(name, 0)
        self._last[model] = now

    def work(self) -> dict[str, dict[str, float]]:
        """What each model did since the run began: the counters named in WORK."""
        return {model: dict(done) for model, done in self._work.items()}

    def pages(self) -> dict[str, dict[str, int]]:
        """Most KV pages that each model was seen to hold for requests, and how many it has."""
        return {model: {"held": held, "all": all} for model, (held, all) in self._held.items()}

    def work_by_alias(self) -> dict[str, dict[str, float]]:
        """The same, all workers together."""
        found: dict[str, dict[str, float]] = {}
        for model, done in self._work.items():
            sums = found.setdefault(alias_and_worker(model)[0], dict.fromkeys(WORK, 0))
            for name, value in done.items():
                sums[name] += value
        return found


def _work(found: Counted) -> dict[str, float]:
    return {name: getattr(found, name) for name in WORK}
