"""Several models under one memory limit: loaded when asked for, unloaded when others need room.

A model with users is never unloaded. Among idle ones the least valuable goes: the one whose
loading cost, spread over the time it has not been used, is smallest. Aliases of one directory
share one engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic

from ...dag.errors import EngineError, ModelError, list_names
from ..models import one_name
from .shelf_place import E, ShelfCosts, ShelfPlace


class Shelf(Generic[E]):
    """Engines by alias. `borrow` blocks while a model loads, so call it from a thread."""

    def __init__(
        self,
        paths: Mapping[str, Path],
        build: Callable[[Path], E],
        limit: int | None = None,
        estimate: Callable[[Path], int] = lambda path: 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._build = build
        self.limit = limit
        """Bytes for all engines together; None is no limit."""
        self._clock = clock
        self._changed = threading.Condition()
        self._closed = False
        self.names = one_name(paths)
        """By alias, the first of those that share its engine."""
        self._by_name = {
            name: ShelfPlace[E](paths[name], estimate(paths[name]))
            for name in dict.fromkeys(self.names.values())
        }
        self._places = {alias: self._by_name[name] for alias, name in self.names.items()}

    @contextmanager
    def borrow(self, alias: str) -> Iterator[E]:
        """The alias's engine, kept loaded while it is borrowed."""
        engine = self.take(alias)
        try:
            yield engine
        finally:
            self.give(alias)

    def take(self, alias: str) -> E:
        """Borrow without a `with`: every `take` needs a `give`."""
        self.check(alias)
        with self._changed:
            place = self._places[alias]
            place.users += 1
            try:
                while (engine := place.engine) is None or engine.closed:
                    self._load_or_wait(place)
            except BaseException:
                place.users -= 1
                raise
            return engine

    def take_loaded(self, alias: str) -> E | None:
        """`take` when the engine is there now, else None; never blocks for a load."""
        place = self._places.get(alias)
        with self._changed:
            if place is None or place.engine is None or place.engine.closed:
                return None
            place.users += 1
            return place.engine

    def give(self, alias: str) -> None:
        """Give a borrowed engine back."""
        with self._changed:
            place = self._places[alias]
            place.users -= 1
            place.last_used = self._clock()
            self._changed.notify_all()

    def unload(self, alias: str) -> bool:
        """Unload an engine that nobody uses; False when there is none such."""
        with self._changed:
            place = self._place(alias)
            if not place.idle:
                return False
            place.unload(self._clock)
            self._changed.notify_all()
            return True

    def name(self, alias: str) -> str:
        """The first of the aliases that share an engine with this one."""
        self._place(alias)
        return self.names[alias]

    def check(self, alias: str) -> None:
        """Raise ModelError for an alias nobody knows, or a model that never fits."""
        self._check_need(self._place(alias))

    def sizes(self) -> dict[str, int]:
        """Bytes that each engine needs, by the first of its aliases: an estimate until it was
        loaded once."""
        return {name: place.need for name, place in self._by_name.items()}

    def seconds(self) -> dict[str, float]:
        """Mean seconds that having a model in takes, loading and unloading it again, by the first
        alias; what has not been seen yet counts as 0."""
        return {name: place.costs.move_seconds for name, place in self._by_name.items()}

    def costs(self) -> dict[str, ShelfCosts]:
        """Measured load and unload times by alias; means over all loads."""
        return {alias: place.costs for alias, place in self._places.items()}

    def moves(self) -> list[tuple[str, float, float]]:
        """The last loads: which engine, by the first alias, and when each began and ended by the
        shelf's clock."""
        with self._changed:
            return [(n, *when) for n, place in self._by_name.items() for when in place.loaded]

    @property
    def loaded(self) -> dict[str, E]:
        """Engines that are loaded now."""
        there = {alias: place.engine for alias, place in self._places.items()}
        return {a: e for a, e in there.items() if e is not None and not e.closed}

    @property
    def full(self) -> bool:
        """Whether every model there is has been loaded."""
        return all(place.engine is not None for place in self._places.values())

    def close(self) -> None:
        """Unload everything, whoever uses it."""
        with self._changed:
            self._closed = True
            for place in self._by_name.values():
                place.unload(self._clock)
            self._changed.notify_all()

    def _place(self, alias: str) -> ShelfPlace[E]:
        place = self._places.get(alias)
        if place is None:
            known = list_names(list(self._places))
            raise ModelError(f"no model is given for alias {alias!r}: known are {known}")
        return place

    def _check_need(self, place: ShelfPlace[E]) -> None:
        if self.limit is not None and place.need > self.limit:
            raise ModelError(
                f"model {str(place.path)!r} needs {told(place.need)} for weights and KV, and the "
                f"limit for all models is {told(self.limit)}: give more memory, or a smaller "
                "kv_memory"
            )

    # ---- inside, with the lock held --------------------------------------------------------

    def _load_or_wait(self, place: ShelfPlace[E]) -> None:
        if self._closed:
            raise EngineError("the engine was closed")
        self._check_need(place)  # what it was found to need since, perhaps by another's load
        place.unload(self._clock)  # an engine that broke
        if place.loading or not self._make_room(place):
            self._changed.wait()
            return
        place.loading, began = True, self._clock()
        self._changed.release()
        try:
            engine = self._build(place.path)
        finally:
            self._changed.acquire()
            place.loading = False
            self._changed.notify_all()
        place.put(engine, began, self._clock())
        # It may need more than was estimated: idle ones go, and it waits for those in use.
        over = self.limit is not None and place.need > self.limit
        if self._closed or over or not self._make_room(place):
            place.unload(self._clock)

    def _make_room(self, place: ShelfPlace[E]) -> bool:
        """Unload idle models until this one fits; False when it has to wait."""
        if self.limit is None:
            return True
        while self._in_use(but=place) + place.need > self.limit:
            idle = [p for p in self._by_name.values() if p.idle]
            if not idle:
                return False
            now = self._clock()
            min(idle, key=lambda p: p.worth(now)).unload(self._clock)
        return True

    def _in_use(self, but: ShelfPlace[E]) -> int:
        others = (p for p in self._by_name.values() if p is not but)
        return sum(p.need for p in others if p.engine is not None or p.loading)


def told(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"
