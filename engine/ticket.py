"""A call as dispatch sees it: what matters of it for who does it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Ticket:
    """A call, as far as it matters who does it."""

    model: str
    """By its name, which aliases share."""
    node: str
    """The path of the task that asks."""
    key: Hashable
    """What calls that begin alike have in common."""
    task: Hashable = None
    """Row and path of who asks."""
    goes_on: bool = False
    """Its next call will begin with this one: a turn of an agent."""
    seconds: float = 0.0
    """Of work, as far as that is known; see `call_work.py`."""
    priority: float = 0.0
    worker: int | None = None
    """Who has it."""
    missing: bool = False
    """It waits for its model to be loaded."""
    begun: bool = False
    """The engine computes it."""
    taken: int | None = None
    """Who has taken it over, until it has come there."""
