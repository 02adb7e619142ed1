"""A worker of a rehearsal: models that are there or not, and calls that wait for them.

Which model is loaded when, and which makes room, is decided by `turns`, as in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .phases import Move
from .rehearsed_heads import Release
from .serving import Ask, Done, Serving, Times, Used
from .turns import Place, Turns

if TYPE_CHECKING:
    from .rehearsal import Rehearsal
    from .rehearsed_device import Device, Processor
    from .standing import Standing

REST = 0.002
"""Seconds after the end of a call until what comes of it has been asked: then it is decided."""


@dataclass(eq=False, slots=True)
class Asked:
    """A call under way."""

    number: int
    alias: str
    ask: Ask
    step: str
    row: Standing
    done: Callable[[Done], None]
    place: Place = Place("")
    """Where it stands for the worker that has it."""
    talk: Hashable = None
    """The conversation of which it is a turn."""
    missing: bool = False
    """It waits for its model to be loaded."""

    def waits(self, world: Rehearsal, missing: bool) -> None:
        """A row whose model is not there is parked: it lets others begin."""
        self.missing = missing
        world.moves(self.row, calls=-1 if missing else 1, others=1 if missing else -1)


class Worker:
    """Models of one memory."""

    def __init__(self, world: Rehearsal, processor: Processor, device: Device) -> None:
        models = device.models
        first = {id(serving): alias for alias, serving in reversed(list(models.items()))}
        self.names = device.names or {a: first[id(serving)] for a, serving in models.items()}
        self.device = device
        self.seconds = self.load_seconds = 0.0
        self.there = set(self.names.values() if device.there is None else device.there)
        self.moving: Move | None = None
        self._world, self._processor = world, processor
        self._servings = {self.names[alias]: serving for alias, serving in models.items()}
        self._fixed = self.full and device.limit is None
        self.turns = Turns(device.sizes, device.limit, device.loads, self.names)
        self._with_engine: dict[int, Asked] = {}
        self._waiting: dict[str, dict[int, Asked]] = {}
        self._wanted: dict[str, list[Callable[[], None]]] = {}
        self._deciding = False
        self._decided: object = None
        processor.workers.append(self)

    @property
    def full(self) -> bool:
        """Whether every model is there."""
        return len(self.there) == len(self._servings)

    @property
    def used(self) -> dict[str, Used]:
        return {name: serving.used for name, serving in self._servings.items()}

    @property
    def queued(self) -> dict[str, int]:
        """Calls that models have and have not begun."""
        return {name: self._servings[name].waiting for name in self.there}

    @property
    def loads(self) -> bool:
        """Whether a model is being loaded, or is to be."""
        return self.moving is not None or bool(self._wanted)

    def ready(self) -> Iterator[tuple[Worker, Serving]]:
        """Models that have a step to take."""
        for name, serving in self._servings.items():
            if name in self.there and serving.busy:
                yield self, serving

    # -- calls and tools -----------------------------------------------------------------------

    def asks(self, asked: Asked) -> None:
        """A call comes; it waits if its model is not there."""
        name = self.names[asked.alias]
        if name in self.there:
            self._enter(asked)
            self._processor.begin()
            return
        self.turns.waits(asked.place)
        self._waiting.setdefault(name, {})[asked.number] = asked
        self._world.fleet.missing(asked, True)
        self.stir()

    def warm(self, alias: str, tokens: Sequence[int], awaited: Sequence[Times]) -> Release | None:
        """Have the beginning of a prompt computed early; it is no reason to load a model."""
        name, world = self.names[alias], self._world
        if name not in self.there:
            return None
        release = self._servings[name].warm(tokens, world.now, awaited)
        self._processor.begin()
        return lambda: release(world.now)

    def leaves(self, asked: Asked) -> bool:
        """A call goes to another worker. False when it stays: the step under way is its last."""
        name = self.names[asked.alias]
        if asked.missing:
            del self._waiting[name][asked.number]
            self.turns.goes_on(asked.place)
            self._world.fleet.missing(asked, False)
        elif self._servings[name].drop(asked.number, self._world.now):
            del self._with_engine[asked.number]
            self.at_work(asked.place, False)
        else:
            return False
        self.stir()
        return True

    def at_work(self, place: Place, begins: bool) -> None:
        """A tool (or a call) begins or ends."""
        if self._fixed:
            return
        if begins:
            self.turns.begins(place)
        else:
            self.turns.ends(place, self._world.now)
            self.stir()

    def stepped(self, done: Sequence[Done]) -> None:
        for end in done:
            asked = self._with_engine.pop(end.number)
            self.at_work(asked.place, False)
            self._world.fleet.ended(asked, end)
            asked.done(end)

    def _enter(self, asked: Asked) -> None:
        self.at_work(asked.place, True)
        self._with_engine[asked.number] = asked
        self._servings[self.names[asked.alias]].add(asked.number, asked.ask, self._world.now)

    # -- models --------------------------------------------------------------------------------

    def bring(self, name: str, then: Callable[[], None] | None = None) -> None:
        """Have a model loaded when its turn comes, although no call of this worker asks for it."""
        if name in self.there:
            if then is not None:
                then()
            return
        if name not in self._wanted:
            self.turns.waits(_bringing(name))
        self._wanted.setdefault(name, []).extend([then] if then is not None else [])
        self.stir()

    def forget(self, name: str) -> None:
        """Nobody wants it brought any more; if it is being loaded, it comes."""
        if self._wanted.pop(name, None) is not None:
            self.turns.goes_on(_bringing(name))

    def stir(self) -> None:
        """Something has changed: decide what to load once all has come to rest."""
        asked = any(self._waiting.values()) or bool(self._wanted)
        if self._fixed or self._deciding or not (asked or not self.full):
            return
        self._deciding = True
        self._world.at(REST, self._decide)

    def _decide(self) -> None:
        self._deciding = False
        if self.moving is not None:
            return
        state = (self.turns.state, frozenset(self.there))
        if state == self._decided:
            return
        found = self.turns.decide(frozenset(self.there), self._world.now)
        if found.move is not None:
            self.moving = found.move
            for name in found.move.unload:
                self.there.discard(name)
                self._servings[name].unload()
            self._processor.load(self, found.move)
        elif found.wait is not None:
            self._world.at(found.wait, self.stir)
        else:
            self._decided = state

    def loading(self, move: Move) -> float:
        """Seconds of a move that begins now."""
        seconds, found = self.device.loads.get(move.load, 0.0), self._world.found
        found.loads.append(move.load)
        found.load_seconds += seconds
        self.load_seconds += seconds
        return seconds

    def loaded(self, move: Move) -> None:
        name, self.moving, self._decided = move.load, None, None
        self.there.add(name)
        for asked in self._waiting.pop(name, {}).values():
            self.turns.goes_on(asked.place)
            self._world.fleet.missing(asked, False)
            self._enter(asked)
        then = self._wanted.get(name, [])
        self.forget(name)
        for action in then:
            action()
        self._world.fleet.came(self)
        self.stir()


def _bringing(name: str) -> Place:
    return Place(f"loading {name}", name)
