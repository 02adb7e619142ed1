"""Models on their way to the workers on which a plan places them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from ...dag.placement import Stage
from .local import LocalBackend

log = logging.getLogger("plait")


class Arrivals:
    """Loads what a stage holds. `lock`: held while others ask; `came`: told the worker of a model
    that is there."""

    def __init__(
        self, workers: Sequence[LocalBackend], lock: threading.RLock, came: Callable[[int], None]
    ) -> None:
        self._workers, self._lock, self._came = workers, lock, came
        self._coming: dict[asyncio.Task[None], int] = {}

    def awaited(self, worker: int) -> bool:
        """Whether a model comes to a worker."""
        with self._lock:
            return worker in self._coming.values()

    async def load(self, stage: Stage) -> None:
        """Load what a stage begins with; waits until one of its models is where it is placed. Work
        goes on there while the others come, and what asks for these waits for them."""
        comes = [
            self._begin(worker, model) for worker, models in enumerate(stage.models)
            for model in sorted(models) if not self._workers[worker].has(model)
        ]  # fmt: skip
        if comes and len(comes) == sum(map(len, stage.models)):
            done, _ = await asyncio.wait(comes, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*done)  # raises what went wrong

    def _begin(self, worker: int, model: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self._bring(worker, model))
        with self._lock:
            self._coming[task] = worker
        task.add_done_callback(self._ended)
        return task

    async def _bring(self, worker: int, model: str) -> None:
        await self._workers[worker].open((model,))
        self._came(worker)

    def _ended(self, task: asyncio.Task[None]) -> None:
        with self._lock:
            self._coming.pop(task, None)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.debug("a model was not loaded where it was placed: %s", failure)
