"""The thread that owns a step loop. Everybody else only posts to it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]


class StepThread:
    """Runs posted actions between steps, and steps while there is work.

    `step(closing)` says whether more is to do; it is called once more, with True, at the end.
    """

    def __init__(self, name: str, step: Callable[[bool], bool]) -> None:
        self._step = step
        self._posts: deque[tuple[Action, Action | None]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, action: Action, refused: Action | None = None) -> None:
        """Run `action` on the thread before its next step; `refused` when it has closed."""
        with self._wake:
            if not self._closing:
                self._posts.append((action, refused))
                self._wake.notify()
                return
        if refused is not None:
            refused()

    def close(self, timeout: float = 30.0) -> None:
        """End after the running step. Returns in any case."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        more = False
        while self._wait(more):
            while self._posts:
                self._posts.popleft()[0]()
            more = self._step(False)
        while self._posts:
            _, refused = self._posts.popleft()
            if refused is not None:
                refused()
        self._step(True)

    def _wait(self, more: bool) -> bool:
        """Until there is something to do; False when closing."""
        with self._wake:
            while not (more or self._posts or self._closing):
                self._wake.wait()
            return not self._closing
