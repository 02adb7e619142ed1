"""Threads for plain (not async) tools.

A thread cannot be stopped, so a call that ran out of time leaves its thread behind, stuck in the
tool. The pool counts such threads and replaces them, up to a bound; beyond it the pool shrinks,
and when nothing is left that could run a call, calls fail at once with an error that says why,
instead of waiting in a queue for ever. A stuck thread whose tool returns after all goes back to
work. Threads are daemons: one that hangs must not keep the process from ending.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from ..dag.errors import ToolError, first_line

THREADS = 32
SPARE = 32


class Job:
    """One call: `work` runs in a thread, or `refuse` is called when no thread can ever run it."""

    __slots__ = ("abandoned", "clock", "label", "refuse", "started", "work")

    def __init__(
        self, label: str, work: Callable[[], None], refuse: Callable[[ToolError], None],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self.label, self.work, self.refuse, self.clock = label, work, refuse, clock
        self.started: float | None = None
        """When a thread took it up, by `clock`."""
        self.abandoned = False


class Threads:
    """At most `size` threads that work, and at most `spare` more that are stuck.

    Invariants, under the lock: `alive <= size + spare`; `stuck <= alive`; unless threads are
    missing, every queued job finds a thread because one is started whenever `busy` (jobs queued or
    running, not abandoned) exceeds the threads that are not stuck.
    """

    def __init__(self, size: int = THREADS, spare: int = SPARE) -> None:
        self.size, self.spare = size, spare
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._stuck: Counter[str] = Counter()
        self._alive = self._busy = 0

    @property
    def stuck(self) -> int:
        """Threads still inside a call that nobody waits for."""
        return self._stuck.total()

    def submit(self, job: Job) -> None:
        """Queue a call; raises ToolError when every thread is stuck."""
        with self._lock:
            self._busy += 1
            self._grow()
            if self._alive == self.stuck:
                self._busy -= 1
                raise self._exhausted()
            self._queue.append(job)
            self._ready.notify()

    def abandon(self, job: Job) -> None:
        """Nobody waits for this call any more; if it runs, its thread counts as stuck."""
        refused: list[Job] = []
        with self._lock:
            if job.abandoned:
                return
            job.abandoned = True
            self._busy -= 1
            if job.started is None:
                return
            self._stuck[job.label] += 1
            self._grow()
            if self._alive == self.stuck:
                refused = [j for j in self._queue if not j.abandoned]
                self._busy -= len(refused)
                self._queue.clear()
            error = self._exhausted()
        for waiting in refused:
            waiting.refuse(error)

    def _grow(self) -> None:
        working = self._alive - self.stuck
        if self._busy > working and working < self.size and self._alive < self.size + self.spare:
            self._alive += 1
            name = f"plait-tool-{self._alive}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _exhausted(self) -> ToolError:
        names = ", ".join(f"{name!r} ({n})" for name, n in self._stuck.most_common(5))
        return ToolError(
            f"no thread is left for plain tools: all {self._alive} are stuck in calls that ran out "
            f"of time or were cancelled: {names}; give those tools a time limit of their own"
        )

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not self._queue:
                    self._ready.wait()
                job = self._queue.popleft()
                if job.abandoned:
                    continue
                job.started = job.clock()
            try:
                job.work()
            except BaseException as error:  # memory ran out while the outcome was put together
                job.refuse(ToolError(f"tool {job.label!r} broke its thread: {first_line(error)}"))
            with self._lock:
                if not job.abandoned:
                    job.abandoned = True  # done: nothing is left to abandon
                    self._busy -= 1
                    continue
                self._stuck -= Counter((job.label,))  # drops names that reach zero
                if self._alive - self.stuck > self.size:
                    self._alive -= 1
                    return
