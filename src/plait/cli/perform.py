"""Performing a batch at a terminal: progress while it runs, signals, and a summary at its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from ..dag.errors import UserError
from ..engine.batch import Batch
from ..engine.report import write_report
from .options import print_json
from .progress import Progress, progress_for
from .summary import as_json as summary_json
from .summary import exit_code, summary

GRACE = 1.0
"""Seconds for cancelled work to end in."""


def perform(prepare: Callable[[], Batch], *, as_json: bool = False, quiet: bool = False) -> int:
    """Prepare and run a batch, tell how it went, and return the exit code."""
    batch = prepare()
    try:
        with progress_for(batch, quiet) as progress, Signals(batch, progress) as signals:
            asyncio.run(_execute(batch, progress, signals, as_json, quiet))
    except UserError:  # a model that cannot be loaded
        batch.discard()
        raise
    finally:
        batch.engine.close()
    return _end(batch, as_json, quiet)


async def _execute(
    batch: Batch, progress: Progress, signals: Signals, as_json: bool, quiet: bool
) -> None:
    await batch.execute(progress.tick)
    if signals.count > 1 or await _some_go_on():
        # Whatever still holds a thread (a tool, a model being loaded) is not waited for.
        progress.close()
        code = _end(batch, as_json, quiet)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _some_go_on() -> bool:
    """Whether work goes on although it was cancelled: a tool that swallows what ends it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return bool(others and (await asyncio.wait(others, timeout=GRACE))[1])


def _end(batch: Batch, as_json: bool, quiet: bool) -> int:
    with suppress(OSError):  # `plait report` makes it again
        write_report(batch.run)
    if as_json:
        print_json(summary_json(batch))
    elif not quiet or not batch.complete:
        to = sys.stderr if batch.settings.output == "-" or quiet else sys.stdout
        print(summary(batch, brief=quiet), file=to)
    return exit_code(batch)


class Signals:
    """Ctrl-C or SIGTERM: once stops admission, twice cancels, a third time ends the process."""

    def __init__(self, batch: Batch, progress: Progress) -> None:
        self._batch, self._progress, self.count = batch, progress, 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._batch.stop("interrupted")
            running = self._batch.stats.rows_running
            with suppress(RuntimeError):  # in the middle of writing to the terminal
                say = f"stopping: {running} rows under way finish; again to end at once"
                self._progress.say(say)
        elif self.count == 2:
            self._batch.abort()
        else:
            os._exit(3)
