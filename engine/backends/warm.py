"""The seam for prompts that are begun before they are whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ...cache.holding import Hold, Times
from ...dag.messages import Prompt


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a prompt whose last values are still awaited."""

    prompts: tuple[Prompt, Prompt]
    """Two prompts that differ in those values only: what is the same in both is the beginning."""
    model: str
    tools: tuple[Mapping[str, Any], ...] = ()
    awaited: tuple[Times, ...] = ()
    """How long each of the values takes that the prompt waits for; see `hold_for`."""
    task: tuple[str, str] | None = None
    """The row and the path of the call that will begin with it."""
    salt: str = ""
    """That of the calls which will ask for it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A head that is kept: what was there of it, and the rest as soon as there is time."""

    release: Callable[[], None]
    """To be called once nobody waits for it any more."""
    hold: Hold | None = None
    """How long it is kept unless it is released, and why."""


@runtime_checkable
class Warms(Protocol):
    """A backend that can compute the beginning of a prompt."""

    async def warm(self, head: Head) -> Kept | None:
        """Keep what is there of it for as long as that pays, and compute the rest as soon as
        nothing else is to be done. None when it will not.

        Raises PromptError when its prompts cannot be encoded.
        """
        ...
