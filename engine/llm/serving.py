"""A model's work on its thread: calls are taken, steps run, and what they end is handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .delivery import GenerateCall, OpenCalls
from .loop import StepLoop
from .warming import Warming


class Serving:
    """Used on the step thread only. `numbers` are those of requests."""

    def __init__(
        self, loop: StepLoop, calls: OpenCalls, numbers: Iterator[int], clock: Callable[[], float]
    ) -> None:
        self._loop, self._calls, self._numbers, self._clock = loop, calls, numbers, clock
        self.warming = Warming(loop.scheduler, loop.tally)
        """Heads of prompts. They only help, so they go through `attempt`."""

    def step(self) -> bool:
        """Run a step if there is one; whether more is to do."""
        self.attempt(lambda: self.warming.begin(self._numbers, self._clock()))
        if self._loop.busy:
            ended = [o for o in self._loop.step() if not o.request.warm]
            self._loop.abort(self._calls.deliver(ended))
            self.attempt(lambda: self.warming.end(self._clock()))
        return self._loop.busy or self.warming.waiting

    def submit(self, call: GenerateCall) -> None:
        """A call has come."""
        self._calls.open(call)
        first, tally = call.requests[0], self._loop.tally
        tally.prompt_tokens += len(first.prompt)
        tally.requests += len(call.requests)
        self.attempt(lambda: self.warming.met(first.prompt, first.salt))
        for request in call.requests:
            self._loop.scheduler.add(request)

    def abort(self, call: GenerateCall) -> None:
        """Nobody waits for the call any more."""
        self._loop.abort(self._calls.drop(call))

    def close(self) -> None:
        """Fail whatever is under way."""
        self._calls.close()

    def attempt(self, action: Callable[[], object]) -> None:
        """Do what only helps: where it breaks, heads are forgotten and the engine goes on."""
        try:
            action()
        except BaseException:  # a panic of an extension is no Exception
            self.warming = self.warming.afresh(self._clock())
