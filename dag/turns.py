"""Taking turns: which model to load now, while a batch runs and not all of its models fit.

A state machine without a clock: it is told which calls wait for a model, which run, and which tools
are under way, and answers with the next move or with none. It follows the plan as far as there is
one: a model stays while anything under way may ask for it again before another is loaded, and the
order of loads is the one that `phases` finds for what is left. Of calls no plan knows it only sees
that they wait; they are served in the order in which they came.

It cannot wait for ever: a model is held only for the sake of tools and calls that run, and at most
for as long as it takes to load it and the other one again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .ahead import Ahead
from .phases import Models, Move, Steps, moves

PATIENCE = 1.0
"""Least seconds for which a model is held for tools that run."""
SEARCHED = 256
"""States that are searched for one decision: it is taken between two calls."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run a call or a tool stands."""

    step: str
    model: str | None = None
    """None for a tool."""
    ahead: Ahead | None = None
    """What the plan knows of the run; None when nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A move, and why; or how long to wait before asking again."""

    move: Move | None
    why: str
    wait: float | None = None


class Turns:
    """The policy of one memory. `sizes` and `limit` are bytes (None is no limit), `seconds` what
    loading takes; `names` says which model an alias of the plan stands for."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        limit: int | None,
        seconds: Mapping[str, float] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.sizes, self.limit, self.seconds = sizes, limit, seconds or {}
        self._names = names or {}
        self._waiting: Counter[Place] = Counter()
        self._running: Counter[Place] = Counter()
        self._used: dict[str, float] = {}
        self._held: tuple[Move, float] | None = None

    # -- what happens --------------------------------------------------------------------------

    def waits(self, place: Place) -> None:
        """A call begins to wait for its model."""
        self._waiting[place] += 1

    def goes_on(self, place: Place) -> None:
        """It waits no more: its model has come, or it was cancelled."""
        _less(self._waiting, place)

    def begins(self, place: Place) -> None:
        """A call runs on its model, or a tool begins."""
        self._running[place] += 1

    def ends(self, place: Place, now: float) -> None:
        _less(self._running, place)
        if place.model is not None:
            self._used[place.model] = now

    @property
    def planned(self) -> bool:
        """Whether a plan knows what will be asked for next."""
        return any(place.ahead is not None for place in (*self._waiting, *self._running))

    @property
    def state(self) -> tuple[frozenset[Place], frozenset[Place]]:
        """Where calls wait, and where they (or tools) run: what a decision depends on, besides
        time."""
        return frozenset(self._waiting), frozenset(self._running)

    # -- what to do ----------------------------------------------------------------------------

    def fits(self, models: Models) -> bool:
        return self.limit is None or sum(self.sizes[m] for m in models) <= self.limit

    def decide(self, resident: Models, now: float) -> Decision:
        """The move to make now, with these models there."""
        steps, surely = self._left()
        ready = steps.finish(frozenset(), resident)
        asked = [p.model for p in self._waiting if p.model is not None and p.model not in resident]
        # A model that only a branch may ask for is not loaded before it does.
        wanted = [m for m in steps.wanted(ready) if m in asked or m in surely]
        first = sorted(wanted or dict.fromkeys(asked), key=lambda m: _place(m, asked))
        busy = {p.model for p in self._running if p.model is not None}
        soon = {model for id in ready if (model := steps.models[id]) is not None}
        used = self._used
        go = sorted(resident, key=lambda m: (m in busy, m in soon, used.get(m, 0.0), m))
        found = moves(steps, resident, self.fits, first=first, go=go, searched=SEARCHED)
        if not found:
            self._held = None
            return Decision(None, "no model is wanted that is not there")
        return self._judge(found[0], busy, soon, now)

    def _judge(self, move: Move, busy: set[str], soon: set[str], now: float) -> Decision:
        busy, soon = busy.intersection(move.unload), soon.intersection(move.unload)
        if busy:
            self._held = None
            return Decision(None, f"{_names(busy)} must go for {move.load!r} and has calls running")
        if not soon:
            self._held = None
            return Decision(move, self._why(move))
        if self._held is None or self._held[0] != move:
            self._held = (move, now)
        patience = self.patience(move)
        left = self._held[1] + patience - now
        why = f"{_names(soon)} must go for {move.load!r} and may soon be asked again"
        if left > 0:
            return Decision(None, why, left)
        if not any(place.model == move.load for place in self._waiting):
            return Decision(None, why)  # nobody suffers
        self._held = None
        return Decision(move, f"{why}, but has been kept for {patience:.1f} s")

    def patience(self, move: Move) -> float:
        """Seconds for which nothing is unloaded that is about to be asked: what the loads take that
        this saves, so that waiting in vain costs at most as much again."""
        return max(PATIENCE, sum(self.seconds.get(m, 0.0) for m in (move.load, *move.unload)))

    def _why(self, move: Move) -> str:
        calls = sum(n for place, n in self._waiting.items() if place.model == move.load)
        out = f", in the place of {_names(move.unload)}" if move.unload else ""
        told = f"{calls} calls wait for it" if calls else "the plan asks for it next"
        return f"{move.load!r} is loaded{out}: {told}"

    def _left(self) -> tuple[Steps, set[str]]:
        """What is left to do, rows moving on together, and the models that are asked for sure."""
        needs: dict[str, tuple[str, ...]] = {}
        models: dict[str, str | None] = {}
        surely: set[str] = set()
        front: dict[Ahead | None, list[Place]] = {}
        for place in (*self._waiting, *self._running):
            front.setdefault(place.ahead, []).append(place)
        for number, (ahead, places) in enumerate(front.items()):
            left = ahead.behind(place.step for place in places) if ahead is not None else {}
            alone = {p.step: () for p in places if p.step not in left}
            own = {p.step: p.model for p in places}
            for step, before in (alone | left).items():
                name = f"{number}:{step}"
                needs[name] = tuple(f"{number}:{id}" for id in before)
                known = ahead.models.get(step) if ahead is not None else None
                known = self._names.get(known, known) if known is not None else None
                model = models[name] = own.get(step, known)
                if model is not None and ahead is not None and step in ahead.certain:
                    surely.add(model)
        return Steps(needs, models), surely


def place_of(model: str, step: str, ahead: Ahead | None) -> Place:
    """Where in a run a call stands: at a step of its plan, or among the calls of its model."""
    if ahead is not None and step in ahead.needs:
        return Place(step, model, ahead)
    return Place(f"calls to {model}", model)


def _less(counter: Counter[Place], place: Place) -> None:
    counter[place] -= 1
    if counter[place] <= 0:
        del counter[place]


def _place(model: str, asked: Sequence[str]) -> int:
    """Who has waited longest comes first, and before those nobody waits for yet."""
    return asked.index(model) if model in asked else len(asked)


def _names(models: Iterable[str]) -> str:
    return ", ".join(repr(m) for m in sorted(models))
