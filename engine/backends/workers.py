"""Several devices: a local backend on each, and calls divided between them.

Every worker serves every model, loads it when calls come to it, and takes turns under its own
memory limit; see `engine/routing.py` for who takes which call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ...dag.ahead import Ahead
from ...dag.messages import Message
from ..generation import Generation
from ..routing import Routes
from .backend import Call
from .local import LocalBackend

if TYPE_CHECKING:
    from ..llm.costs import Costs
    from ..llm.counters import Counters

PREFIX_CHARS = 256
"""Characters by which calls that begin alike are known."""


class Workers:
    """A backend made of backends that serve the same models."""

    def __init__(self, workers: Sequence[LocalBackend]) -> None:
        self.workers = tuple(workers)
        self._routes = Routes(len(self.workers))

    async def generate(self, call: Call) -> list[Generation]:
        there = [worker.has(call.model) for worker in self.workers]
        chosen = self._routes.choose((call.model, _beginning(call)), there)
        self._routes.begins(chosen)
        try:
            return await self.workers[chosen].generate(call)
        finally:
            self._routes.ends(chosen)

    async def open(self, models: tuple[str, ...]) -> None:
        """The first worker shows whether they load; the others load what they are asked for."""
        await self.workers[0].open(models)

    @contextmanager
    def at_work(self, ahead: Ahead, step: str) -> Iterator[None]:
        """A tool is at work inside the block: what comes after it may go to any worker."""
        with ExitStack() as stack:
            for worker in self.workers:
                stack.enter_context(worker.at_work(ahead, step))
            yield

    def counters(self) -> dict[str, Counters]:
        """What each loaded engine has done, by alias and worker."""
        return {
            f"{a} on {w}": c for w, b in enumerate(self.workers) for a, c in b.counters().items()
        }

    def costs(self) -> dict[str, Costs]:
        return {f"{a} on {w}": c for w, b in enumerate(self.workers) for a, c in b.costs().items()}

    def describe(self) -> dict[str, Any]:
        told = [worker.describe() for worker in self.workers]
        return {"backend": "local", "models": told[0]["models"], "workers": told}

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def _beginning(call: Call) -> object:
    """What calls that share a long prefix have in common at least."""
    prompt = call.prompt
    if isinstance(prompt, str):
        return prompt[:PREFIX_CHARS]
    first = prompt[0] if prompt else ""
    return first.content[:PREFIX_CHARS] if isinstance(first, Message) else tuple(prompt[:64])
