"""Open `generate` calls: from the caller's event loop to the step thread's requests, and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ...dag.errors import EngineError, PlaitError
from ..generation import Generation
from .loop import Outcome
from .request import Request

OnToken = Callable[[int, int, str], None]
"""(which of the n generations, token id, text that can be shown now), on the caller's loop."""


@dataclass(slots=True, eq=False)
class GenerateCall:
    """One `generate` call: its requests, and whom to tell."""

    future: asyncio.Future[list[Generation]]
    requests: list[Request]
    on_token: OnToken | None = None
    on_begin: Callable[[], object] | None = None
    """To be called on the caller's loop when the first of them is admitted."""
    done: dict[int, Generation] = field(default_factory=dict)
    """Finished generations, by request number."""

    def __post_init__(self) -> None:
        if self.on_begin is not None:
            self.requests[0].on_begin = self.begin

    def begin(self) -> None:
        if self.on_begin is not None:
            self._on_loop(self.on_begin)

    def close(self) -> None:
        """Fail it because the engine was closed."""
        self.fail(EngineError("the engine was closed"))

    def fail(self, error: PlaitError) -> None:
        self._on_loop(lambda: None if self.future.done() else self.future.set_exception(error))

    def finish(self) -> None:
        generations = [self.done[r.number] for r in self.requests]
        self._on_loop(lambda: None if self.future.done() else self.future.set_result(generations))

    def show(self, request: Request, token: int, text: str) -> None:
        listener = self.on_token
        if listener is not None:
            self._on_loop(lambda: listener(request.index, token, text))

    def _on_loop(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody is left to tell
            self.future.get_loop().call_soon_threadsafe(action)


class OpenCalls:
    """Calls whose requests are under way. Used on the step thread only."""

    def __init__(self) -> None:
        self._calls: dict[int, GenerateCall] = {}

    def open(self, call: GenerateCall) -> None:
        for request in call.requests:
            self._calls[request.number] = call

    def drop(self, call: GenerateCall) -> list[Request]:
        """Forget a call; its requests that are still under way."""
        return [r for r in call.requests if self._calls.pop(r.number, None)]

    def deliver(self, outcomes: Iterable[Outcome]) -> list[Request]:
        """Tell the ends of one step's requests. The others of calls that failed with them."""
        # All are taken out first: a call may have lost several requests in this step.
        ended = [(self._calls.pop(o.request.number), o) for o in outcomes]
        left: list[Request] = []
        for call, outcome in ended:
            if outcome.error is not None:
                call.fail(outcome.error)
                left += self.drop(call)
                continue
            assert outcome.generation is not None
            call.done[outcome.request.number] = outcome.generation
            if len(call.done) == len(call.requests):
                call.finish()
        return left

    def show(self, request: Request, token: int, text: str) -> None:
        self._calls[request.number].show(request, token, text)

    def close(self) -> None:
        """Fail whatever is under way."""
        for call in self._distinct():
            call.close()
        self._calls.clear()

    def _distinct(self) -> Iterable[GenerateCall]:
        return {id(call): call for call in self._calls.values()}.values()
