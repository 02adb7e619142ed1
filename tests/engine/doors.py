"""Workers that need no model: each answers when its door is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from plait.dag.placement import Stage
from plait.engine.backends.backend import Call
from plait.engine.generation import Generation

DONE = [Generation((1,), "done", "stop")]


class Door:
    """A worker whose model comes when it is told so. It is its own shelf."""

    limit, moving = None, False

    def __init__(self, there: bool) -> None:
        self.there, self.seen, self.stopped = there, 0, 0
        self.opened = asyncio.Event()
        self.took = 0.001

    async def open(self, models: tuple[str, ...]) -> None:
        await self.opened.wait()

    def check(self, models: Sequence[str]) -> None: ...

    def has(self, model: str) -> bool:
        return self.there

    async def generate(self, call: Call) -> list[Generation]:
        self.seen += 1
        try:
            if not self.there:
                assert call.waits is not None
                call.waits(True)
                try:
                    await self.opened.wait()
                finally:
                    call.waits(False)
            await asyncio.sleep(self.took)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return DONE

    def shelf(self) -> Door:
        return self

    def name(self, alias: str) -> str:
        return alias

    @property
    def loaded(self) -> dict[str, Any]:
        return {}

    def sizes(self) -> dict[str, int]:
        return {}

    def counters(self) -> dict[str, Any]:
        return {}


def stage(*models: str) -> Stage:
    """One step `asked`, with these models on the workers."""
    config = tuple(frozenset(held.split()) for held in models)
    return Stage(config, (0.0,) * len(config), {}, 0.0, frozenset({"0:asked"}))
