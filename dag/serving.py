"""What a rehearsal asks of a model: a cache and a scheduler that take steps in virtual time.

The engine gives its own scheduler and prefix tree behind this; tests give something simpler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Times = Sequence[tuple[float, float]]
"""Seconds, ascending, and the share of all calls that are back by then. Empty: nothing is known."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One LLM call of a rehearsal. Token ids are made up; equal ones are equal texts."""

    prompt: Sequence[int]
    answers: Sequence[Sequence[int]]
    """What it will generate, side by side: one for each of its generations."""
    room: int
    """Tokens that each is expected to have, for which admission makes room."""
    priority: float = 0.0
    first: int | None = None
    """Tokens up to the end of the prompt's first message; None for all."""


@dataclass(frozen=True, slots=True)
class Done:
    """A call that is over."""

    number: int
    computed: int
    """Prompt tokens that were not in the cache. Of several generations the first computes the
    prompt, and the others find it there."""
    room: int | None = None
    """Tokens that the KV memory holds, for a call that is over because it needs more."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """One step."""

    seconds: float
    done: tuple[Done, ...]


@dataclass(slots=True)
class Used:
    """What steps have added up to."""

    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    read_tokens: float = 0.0
    """KV tokens that decode steps read, those in common once."""
    held_tokens: int = 0
    """Most KV tokens that running calls held at once."""
    kept_tokens: int = 0
    """Most KV tokens at once, those that only the cache holds included."""
    page_seconds: float = 0.0
    """KV pages held x seconds."""
    evicted_tokens: int = 0
    """That left the device, to the host tier or for good."""
    host_tokens: int = 0
    """That the host tier holds; 0 without one."""
    offloaded_tokens: int = 0
    """Of those, moved to the host tier, in whole pages."""
    restored_tokens: int = 0
    """Brought back from it."""
    offload_seconds: float = 0.0
    restore_seconds: float = 0.0
    failed: int = 0
    """Calls that the KV memory cannot hold even alone."""


class Serving(Protocol):
    """One model on one worker."""

    @property
    def used(self) -> Used: ...

    @property
    def busy(self) -> bool:
        """Whether a step is to be taken."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that have not begun: one for each generation of a call."""
        ...

    def add(self, number: int, ask: Ask, now: float) -> None:
        """Take a call."""
        ...

    def drop(self, number: int, now: float) -> bool:
        """Forget a call: another worker does it. False when it cannot be taken any more: it ends
        with the step under way."""
        ...

    def warm(
        self, tokens: Sequence[int], now: float, awaited: Sequence[Times] = ()
    ) -> Callable[[float], None]:
        """Keep what is there of a prompt's beginning, for as long as that pays, and compute the
        rest when there is time. What is returned is to be called, with the time, when nobody waits
        for it any more. `awaited`: how long each of the values takes that the prompt waits for."""
        ...

    def unload(self) -> None:
        """Lose all KV. No call is there."""
        ...

    def step(self, now: float) -> Stepped:
        """The next step, which ends `seconds` from now."""
        ...
