"""One model's place on the shelf: loaded or not, who uses it, and what moving it took."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

LOADED = 1_000
"""Loads of which it is remembered when they were."""


class Engine(Protocol):
    """What the shelf needs of an engine."""

    memory_bytes: int
    load_seconds: float
    """What loading took; measuring costs, which is done once, is no part of it."""

    @property
    def closed(self) -> bool:
        """Whether it was closed, or broke and closed itself."""

    def close(self) -> None: ...


E = TypeVar("E", bound=Engine)


@dataclass(frozen=True, slots=True)
class ShelfCosts:
    """What moving one model in and out took, for the cost model: means in seconds."""

    loads: int
    load_seconds: float
    unloads: int
    unload_seconds: float

    @property
    def move_seconds(self) -> float:
        """In and out again: of models that take turns, each load is followed by an unload."""
        return self.load_seconds + self.unload_seconds


@dataclass(slots=True)
class ShelfPlace(Generic[E]):
    """A model of the shelf. Used with the shelf's lock held."""

    path: Path
    need: int
    """Bytes it needs: an estimate until it was loaded once."""
    engine: E | None = None
    users: int = 0
    last_used: float = 0.0
    loading: bool = False
    loads: list[float] = field(default_factory=list)
    unloads: list[float] = field(default_factory=list)
    loaded: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LOADED))
    """When its last loads began and ended, by the shelf's clock."""

    @property
    def idle(self) -> bool:
        """Loaded, and nobody uses it."""
        return self.engine is not None and not self.users

    @property
    def costs(self) -> ShelfCosts:
        loads, unloads = self.loads, self.unloads
        return ShelfCosts(len(loads), _mean(loads), len(unloads), _mean(unloads))

    def worth(self, now: float) -> float:
        """The cost of loading it, spread over the time it has not been used."""
        return _mean(self.loads) / max(now - self.last_used, 1e-3)

    def put(self, engine: E, began: float, now: float) -> None:
        """It was loaded."""
        self.loads.append(engine.load_seconds)
        self.loaded.append((began, now))
        self.engine, self.need, self.last_used = engine, engine.memory_bytes, now

    def unload(self, clock: Callable[[], float]) -> None:
        """Close its engine, if it has one."""
        if self.engine is None:
            return
        began = clock()
        self.engine.close()
        self.engine = None
        self.unloads.append(clock() - began)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
