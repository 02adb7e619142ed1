"""The thread that owns the step loops of a device. Everybody else only posts to it.

All models of a device share one thread, and load on it too. On a CPU that is what makes them fast:
OpenMP gives every thread that computes a team of its own, and as soon as there are more of them
than cores its members sleep after each operator instead of waiting for the next one, which halves
the speed of small steps.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from ...dag.errors import PlaitError, as_fault

Action = Callable[[], object]
T = TypeVar("T")
log = logging.getLogger("plait")


class StepThread:
    """One model's place on its device's thread.

    Posted actions run between steps, and steps while there is work: `step(closing)` says whether
    more is to do. It is called once more, with True, at the end.
    """

    def __init__(self, device: str) -> None:
        self._worker = _worker_of(device)
        self._step: Callable[[bool], bool] | None = None
        self._closed = False
        self._more = False

    def call(self, action: Callable[[], T]) -> T:
        """Run an action on the thread and wait for what it returns. PlaitError for what it raises,
        whatever that is."""
        if threading.current_thread() is self._worker.thread:
            return action()
        results: list[T] = []
        errors: list[PlaitError] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(action())
            except BaseException as error:
                errors.append(as_fault(error))
            finally:
                done.set()

        self._worker.post(run)
        done.wait()
        if errors:
            raise errors[0]
        return results.pop()  # the idle thread keeps the action, and must not keep what it found

    @property
    def closed(self) -> bool:
        return self._closed

    def start(self, step: Callable[[bool], bool]) -> None:
        """Begin to take steps."""
        self._step = step

    def post(self, action: Action, refused: Action | None = None) -> None:
        """Run `action` on the thread before its next step; `refused` when it has closed."""

        def run() -> None:
            if not self._closed:
                action()
                self._more = True
            elif refused is not None:
                refused()

        self._worker.post(run, self)

    def close(self, timeout: float = 30.0) -> None:
        """End after the running step. Returns in any case."""
        done = threading.Event()

        def end() -> None:
            try:
                self.end()
            finally:
                done.set()

        self._worker.post(end)
        if threading.current_thread() is not self._worker.thread:
            done.wait(timeout)

    # ---- on the thread ---------------------------------------------------------------------

    def take_step(self) -> bool:
        """One step, if there is work; whether more is to do."""
        if self._more and self._step is not None and not self._closed:
            self._more = self._step(False)
        return self._more

    def end(self) -> None:
        if not self._closed:
            self._closed = True
            self._more = False
            if self._step is not None:
                self._step(True)
                self._step = None


class _Worker:
    """A device's thread: lives as long as the process."""

    def __init__(self, device: str) -> None:
        self._posts: deque[tuple[Action, StepThread | None]] = deque()
        self._wake = threading.Condition()
        self._busy: dict[StepThread, None] = {}
        self.thread = threading.Thread(target=self._run, name=f"plait {device}", daemon=True)
        self.thread.start()

    def post(self, action: Action, about: StepThread | None = None) -> None:
        with self._wake:
            self._posts.append((action, about))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._posts or self._busy):
                    self._wake.wait()
            while self._posts:
                action, about = self._posts.popleft()
                _guarded(action, about)
                if about is not None:
                    self._busy[about] = None
            for place in list(self._busy):
                if not _guarded(place.take_step, place):
                    del self._busy[place]


def _guarded(action: Callable[[], T], place: StepThread | None) -> T | None:
    """Run; what goes wrong ends the place concerned, never the thread.

    Whatever it is: panics of extensions are no `Exception`, and nobody interrupts this thread.
    """
    try:
        return action()
    except BaseException:
        log.exception("a step loop broke and was closed")
        if place is not None and not place.closed:
            _guarded(place.end, place)
        return None


_workers: dict[str, _Worker] = {}
_workers_lock = threading.Lock()


def _worker_of(device: str) -> _Worker:
    with _workers_lock:
        if device not in _workers:
            _workers[device] = _Worker(device)
        return _workers[device]
