"""Where the rows of a rehearsal stand, and whether there is room for another: the rule by which a
run lets rows in, without the run.

A row that waits for tools only rests, one that waits for another row's work is parked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .ahead import Ahead


@dataclass(slots=True)
class Room:
    """How many rows may be under way."""

    window: int
    """Most rows that are not parked."""
    busy: int
    """Most rows that do not rest."""
    rows: int = 0
    resting: int = 0
    parked: int = 0

    def left(self) -> bool:
        """Whether one more row may begin."""
        return self.rows - self.parked < self.window and self.rows - self.resting < self.busy


@dataclass(slots=True)
class Standing:
    """One row."""

    rank: int
    """Its place in the order in which rows begin."""
    room: Room
    row: str | int
    """Its identity."""
    place: int
    """Among the rows that are rehearsed."""
    ahead: Ahead | None = field(default=None, repr=False)
    """What the plan knows of the row's work, where several models may have to take turns."""
    calls: int = 0
    """LLM calls that it has under way."""
    tools: int = 0
    others: int = 0
    """Tasks of other rows whose values it waits for."""
    _rests: bool = field(default=False, repr=False)
    _parked: bool = field(default=False, repr=False)

    def moves(self, calls: int = 0, tools: int = 0, others: int = 0) -> None:
        """So many more (or fewer) are under way."""
        self.calls, self.tools, self.others = (
            self.calls + calls, self.tools + tools, self.others + others,
        )  # fmt: skip
        rests = not self.calls and bool(self.tools or self.others)
        parked = bool(self.others)
        self.room.resting += rests - self._rests
        self.room.parked += parked - self._parked
        self._rests, self._parked = rests, parked
