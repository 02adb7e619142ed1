"""A worker of a rehearsal: models that compute in turns, and are loaded when they are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .serving import Ask, Done, Serving, Used

if TYPE_CHECKING:
    from .rehearsal import Rehearsal


class Worker:
    """Models that compute in turns, a step each."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self.seconds = 0.0
        self.stepping = False
        self._models: dict[str, Serving] = {}
        self._pending: dict[int, dict[int, Callable[[Done], None]]] = {}
        self._turn = 0
        self._there: set[int] = set()
        self._names: dict[int, str] = {}

    def add(self, alias: str, serving: Serving) -> None:
        self._models[alias] = serving
        self._names.setdefault(id(serving), alias)
        self._pending.setdefault(id(serving), {})
        if alias not in self.rehearsal.stage.loads:
            self._there.add(id(serving))

    def used(self) -> dict[str, Used]:
        return {self._names[id(s)]: s.used for s in self._servings()}

    def ask(self, alias: str, number: int, ask: Ask, done: Callable[[Done], None]) -> None:
        serving = self._models[alias]
        self._pending[id(serving)][number] = done
        serving.add(number, ask, self.rehearsal.now)
        self._begin()

    def _servings(self) -> list[Serving]:
        return list({id(s): s for s in self._models.values()}.values())

    def _begin(self) -> None:
        """Take the next step, if somebody has one to take and none is under way."""
        if self.stepping:
            return
        busy = [s for s in self._servings() if s.busy]
        if not busy:
            return
        there = [s for s in busy if id(s) in self._there]
        if not there:
            self._load(busy[0])
            return
        self._turn += 1
        serving = there[self._turn % len(there)]
        stepped = serving.step(self.rehearsal.now)
        seconds = stepped.seconds * self.rehearsal.stage.disturbed
        self.stepping = True
        self.seconds += seconds
        self.rehearsal.at(seconds, lambda: self._end(serving, stepped.done))

    def _end(self, serving: Serving, done: Sequence[Done]) -> None:
        self.stepping = False
        pending = self._pending[id(serving)]
        for end in done:
            pending.pop(end.number)(end)
        self._begin()

    def _load(self, serving: Serving) -> None:
        stage, name = self.rehearsal.stage, self._names[id(serving)]
        seconds = stage.loads.get(name, 0.0)
        if not stage.together:
            self._there.clear()
        self._there.add(id(serving))
        self.stepping = True
        found = self.rehearsal.found
        found.loads.append(name)
        found.load_seconds += seconds
        self.rehearsal.at(seconds, lambda: self._end(serving, ()))
