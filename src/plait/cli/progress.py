"""How far a batch is: a live line at a terminal, a line now and then elsewhere, or nothing.

Everything shown is read from the run's counters at most four times a second; nothing is done per
row or call.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ..dag.remaining import Expected
    from ..engine.batch import Batch
    from ..engine.run import Stats

WINDOW = 15.0
"""Seconds over which speeds are taken."""
OFTEN, SELDOM = 10.0, 30.0
"""Seconds between plain lines, in the first minute and after it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters at one moment."""

    time: float
    done: int
    failed: int
    tokens: int
    calls: int

    @classmethod
    def of(cls, stats: Stats, time: float) -> Snapshot:
        calls = sum(node.calls for node in stats.nodes.values())
        return cls(time, stats.rows_done, stats.rows_failed, stats.completion_tokens, calls)


class Speed:
    """Speeds over the last seconds, and how long the rest will take."""

    def __init__(self, first: Snapshot) -> None:
        self._seen = deque([first])

    def add(self, now: Snapshot) -> None:
        self._seen.append(now)
        while len(self._seen) > 2 and now.time - self._seen[1].time >= WINDOW:
            self._seen.popleft()

    def per_second(self, what: str) -> float:
        first, last = self._seen[0], self._seen[-1]
        seconds = last.time - first.time
        change: float = getattr(last, what) - getattr(first, what)
        return change / seconds if seconds > 0 else 0.0

    def left(self, rows: int) -> tuple[float, float] | None:
        """Between how many seconds the remaining rows will take; None before rows have finished.

        The count of a random arrival is known to about its square root; two of these make the
        range, and never less than a twentieth of it.
        """
        rate, count = self.per_second("done"), self._seen[-1].done - self._seen[0].done
        if rate <= 0:
            return None
        doubt = min(0.7, max(0.05, 2 / math.sqrt(count)))
        return rows / (rate * (1 + doubt)), rows / (rate * (1 - doubt))


class Progress:
    """Shows nothing; the others show more."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.before = len(batch.rows) - (batch.stats.rows_total or 0)
        """Rows finished by an earlier start."""
        self.began = time.perf_counter()
        self.speed = Speed(Snapshot.of(batch.stats, self.began))
        self._expected: tuple[Expected, ...] | None = None

    def tick(self) -> None: ...

    def say(self, text: str) -> None:
        print(f"plait: {text}", file=sys.stderr)

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def parts(self) -> list[str]:
        """What there is to say, in the order of its weight, without the count of rows."""
        stats, speed = self.batch.stats, self.speed
        if not (stats.rows_running or stats.rows_done):
            return ["loading models"]
        speed.add(Snapshot.of(stats, time.perf_counter()))
        said = [f"{stats.rows_failed} failed"] if stats.rows_failed else []
        said.append(f"{stats.rows_running} running")
        if stats.completion_tokens:
            said.append(f"{speed.per_second('tokens'):,.0f} tokens/s")
        said.append(f"{speed.per_second('calls'):,.0f} calls/s")
        left = self._left_by_calls() or speed.left((stats.rows_total or 0) - stats.rows_done)
        if left and not self.batch.stopped:
            least, most = map(spell, left)
            said.append(f"{least} left" if least == most else f"{least} to {most} left")
        return said

    def _left_by_calls(self) -> tuple[float, float] | None:
        """By the plan's calls, where all of them are known; else rows must tell."""
        from ..dag.remaining import Made, expected, seconds_left

        plan, stats = self.batch.plan, self.batch.stats
        if plan is None:
            return None
        if self._expected is None:
            self._expected = expected(plan)
        made = {
            name: Made(node.calls - node.merged, node.completion_tokens)
            for name, node in stats.nodes.items() if node.completion_tokens
        }  # fmt: skip
        return seconds_left(self._expected, made, stats.seconds - stats.planning_seconds)


class PlainProgress(Progress):
    """A line every ten seconds, later every thirty."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self._next = self.began + OFTEN

    def tick(self) -> None:
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + (OFTEN if now - self.began < 60 else SELDOM)
        done = self.before + self.batch.stats.rows_done
        self.say(f"{done}/{len(self.batch.rows)} rows, " + ", ".join(self.parts()))


class LiveProgress(Progress):
    """A bar and a line of numbers, drawn by rich without a thread of its own."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Rich

        self._rich = Rich(
            TextColumn("[bold]{task.description}"), BarColumn(24), MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[said]}"),
            console=Console(stderr=True), auto_refresh=False, transient=True,
        )  # fmt: skip
        self._task = self._rich.add_task(
            batch.workflow.name, total=len(batch.rows), said="loading models"
        )

    def __enter__(self) -> Self:
        self._rich.start()
        self._rich.refresh()
        return self

    def tick(self) -> None:
        done = self.before + self.batch.stats.rows_done
        self._rich.update(self._task, completed=done, said=" · ".join(self.parts()))
        self._rich.refresh()

    def say(self, text: str) -> None:
        self._rich.console.print(f"plait: {text}", markup=False, highlight=False)

    def close(self) -> None:
        self._rich.stop()


def progress_for(batch: Batch, quiet: bool) -> Progress:
    if quiet:
        return Progress(batch)
    return LiveProgress(batch) if sys.stderr.isatty() else PlainProgress(batch)


def spell(seconds: float) -> str:
    """A length of time in a few characters: `8 s`, `2:05`, `3:10:00`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
