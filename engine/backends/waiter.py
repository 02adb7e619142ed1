"""A call that waits for its model, on the event loop that it came from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...dag.errors import PlaitError
from ...dag.turns import Place

if TYPE_CHECKING:
    from ..llm import LLM


@dataclass(eq=False, slots=True)
class Waiter:
    """One call, and the future by which it gets its engine."""

    place: Place
    alias: str
    future: asyncio.Future[LLM]

    @property
    def has_result(self) -> bool:
        """Whether the engine has been handed over."""
        done = self.future.done() and not self.future.cancelled()
        return done and self.future.exception() is None

    def tell(self, action: Callable[[], None]) -> bool:
        """Do something on the waiter's loop; False when the loop is closed."""
        with suppress(RuntimeError):
            self.future.get_loop().call_soon_threadsafe(action)
            return True
        return False

    def fail(self, failure: PlaitError) -> None:
        """Each waiter gets an error of its own: rows write their node into it."""

        def set_failure() -> None:
            if not self.future.done():
                self.future.set_exception(type(failure)(str(failure)))

        self.tell(set_failure)
