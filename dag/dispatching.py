"""What a rehearsal asks of a policy that divides calls between workers.

The engine gives behind this the policy that its own workers follow (`engine/dispatch.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .ahead import Ahead
from .serving import Ask, Done


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker holds."""

    resident: frozenset[str] = frozenset()
    """Models that are loaded."""
    coming: frozenset[str] = frozenset()
    """Models that are being loaded for others' calls."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Calls that a model has and has not begun."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by model, weights and KV."""
    limit: int | None = None
    """Bytes for all of them; None sets no limit."""
    loads: Mapping[str, float] = field(default_factory=dict)
    """Seconds that loading a model takes."""

    def fits(self, models: frozenset[str]) -> bool:
        return self.limit is None or sum(self.sizes.get(m, 0) for m in models) <= self.limit


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a worker that idles is to do for others."""

    model: str
    out: tuple[str, ...] = ()
    """Models that go for it, where it is to be loaded."""
    calls: tuple[int, ...] | None = None
    """The calls that it takes; None when the model is to be loaded first."""


class Dispatching(Protocol):
    """Which of several workers does a call."""

    rest: float
    """Seconds after which a worker without calls is taken to idle."""

    def begins(
        self, number: int, model: str, step: str, ask: Ask, has: Sequence[bool],
        talk: Hashable = None,
    ) -> int:  # fmt: skip
        """The worker of a call of a step. `has`: by worker, whether its model is there; `talk`: the
        conversation of which it is a turn."""
        ...

    def waits(self, number: int, missing: bool) -> None:
        """A call begins to wait for its model to be loaded, or goes on."""
        ...

    def ends(self, number: int, done: Done | None) -> None:
        """It is over; None when another worker has taken it, and `begins` follows."""
        ...

    def idle(self, worker: int) -> bool:
        """Whether a worker has no calls."""
        ...

    def freed(self, worker: int, has: Sequence[str], most: int) -> tuple[int, ...]:
        """Calls that wait elsewhere for a model that this worker has, and that it takes."""
        ...

    def steal(self, worker: int, sites: Sequence[Site]) -> Takeover | None:
        """What a worker that idles had better do."""
        ...

    def dropped(self, worker: int) -> None:
        """A worker does not load what it was to load for others: it has calls of its own."""
        ...

    def view(self, ahead: Ahead, worker: int) -> Ahead:
        """What lies ahead of a worker."""
        ...
