"""What a rehearsal finds: the batch as a whole, and each of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from .serving import Used


@dataclass(slots=True)
class Rehearsed:
    """What a rehearsal found."""

    seconds: float = 0.0
    nodes: dict[str, Tasks] = field(default_factory=dict)
    """By the name under which a run counts them."""
    used: dict[str, Used] = field(default_factory=dict)
    """By model alias, the first of those that share an engine; of several workers, each apart."""
    busy: dict[int, float] = field(default_factory=dict)
    """Seconds that each worker computes."""
    loads: list[str] = field(default_factory=list)
    """Models in the order in which they are loaded."""
    load_seconds: float = 0.0
    """On all workers."""
    loading: dict[int, float] = field(default_factory=dict)
    """Seconds that each worker loads."""
    waited: float = 0.0
    """Seconds in which no worker computes: only tools run."""
    rows: int = 0
    outgrown: Outgrown | None = None
    """The first call that the KV memory could not hold even alone."""


@dataclass(frozen=True, slots=True)
class Outgrown:
    """A call whose prompt and answer its model's KV memory cannot hold."""

    node: str
    """The name under which a run counts it."""
    model: str
    row: str | int
    place: int
    """The row's, from 0."""
    tokens: int
    """Of both."""
    room: int
    """Tokens that the memory holds."""


@dataclass(slots=True)
class Tasks:
    """What one node comes to."""

    calls: int = 0
    merged: int = 0
    prompt: int = 0
    computed: int = 0
    generated: int = 0
    seconds: float = 0.0
    """From asking to having, summed over calls."""
