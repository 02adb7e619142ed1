"""The seam for prompts that are begun before they are whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ...dag.messages import Prompt


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a prompt whose last values are still awaited."""

    prompts: tuple[Prompt, Prompt]
    """Two prompts that differ in those values only: what is the same in both is the beginning."""
    model: str
    tools: tuple[Mapping[str, Any], ...] = ()
    hold: float = 60.0
    """Seconds after which nobody will come for it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A head that is computed, or will be when there is time."""

    release: Callable[[], None]
    """To be called once nobody waits for it any more."""


@runtime_checkable
class Warms(Protocol):
    """A backend that can compute the beginning of a prompt."""

    async def warm(self, head: Head) -> Kept | None:
        """Compute it as soon as nothing else is to be done, and keep it. None when it will not.

        Raises PromptError when its prompts cannot be encoded.
        """
        ...
