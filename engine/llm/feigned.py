"""Steps to be timed as a run takes them: scheduled, laid out, computed, and their tokens taken.

A step of many requests needs many prompts in the cache. Computing those would take longer than all
the steps, and what is in KV does not change what a step costs: so prompts only count as computed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import torch

from ...cache.pages import PageAllocator
from ...cache.radix import RadixTree
from ...dag.sampling import Sampling
from .attention.plan import Layout
from .forward import Runner
from .loop import StepLoop
from .model import LoadedModel
from .request import Request
from .scheduler import Limits, Scheduler
from .work import Work

DECODED = 4
"""Steps in a row that requests decode at most."""
ANY = 1 << 40
"""No limit."""


class Feigned:
    """A loop of the engine's own parts over free pages of its pool, all of which are free again
    behind every method. A step that breaks raises what the loop says of it."""

    def __init__(
        self, loaded: LoadedModel, runner: Runner, free: PageAllocator, work: Work
    ) -> None:
        self._runner = runner
        self._vocab_size = loaded.vocab_size
        self._device = loaded.device
        self._feigning = False
        self._numbers = count()
        self._tree = RadixTree(free, runner.pool.page_size)
        scheduler = Scheduler(self._tree, Limits(batch_tokens=ANY, running=ANY), runner.pool)
        self._loop = StepLoop(scheduler, self, _NoText(), frozenset(), work, time.perf_counter)

    def run(self, layout: Layout) -> torch.Tensor:
        """The loop's runner: one that leaves out what is only feigned."""
        if not self._feigning:
            return self._runner.run(layout)
        sampling = sum(chunk.samples for chunk in layout.chunks)
        return torch.zeros(max(1, sampling), 1, device=self._device)

    def decode(self, rows: int, context: int, steps: int) -> list[float]:
        """Seconds of up to `DECODED` steps in a row, of requests that have about `context` tokens
        before them."""
        prompts = self._prompts(rows, max(1, context - DECODED // 2))
        with self._emptied(), self._requests(prompts, feigned=True):
            return [self._step() for _ in range(min(steps, DECODED))]

    def prefill(self, rows: int, tokens: int, context: int) -> float:
        """Seconds of the step that admits and computes so many prompts of `tokens` each, behind
        contexts of their own that are found in the cache."""
        prompts = self._prompts(rows, context + tokens)
        with self._emptied():
            if context:
                with self._requests([p[:context] for p in prompts], feigned=True):
                    pass
            with self._requests(prompts, feigned=False):
                return self._step()

    # ---- inside ----------------------------------------------------------------------------

    @contextmanager
    def _emptied(self) -> Iterator[None]:
        """Whatever is in the cache behind it is evicted."""
        try:
            yield
        finally:
            self._tree.evict(self._tree.cached_pages, time.perf_counter())

    @contextmanager
    def _requests(self, prompts: Sequence[tuple[int, ...]], feigned: bool) -> Iterator[None]:
        """Requests under way; what they leave in the cache is there for the next ones."""
        scheduler, now = self._loop.scheduler, time.perf_counter()
        greedy = Sampling(max_tokens=DECODED + 1, ignore_eos=True)
        requests = [
            Request(n, p, greedy, 0, now, limit=ANY, expected=len(p) + greedy.max_tokens)
            for n, p in zip(self._numbers, prompts, strict=False)
        ]
        try:
            for request in requests:
                scheduler.add(request)
            if feigned:
                self._feigning = True
                self._step()
                self._feigning = False
            yield
        finally:
            self._feigning = False
            alive = {id(r) for r in scheduler.requests()}
            self._loop.abort([r for r in requests if id(r) in alive])

    def _step(self) -> float:
        for outcome in self._loop.step():
            if outcome.error is not None:
                raise outcome.error
        return self._loop.steps[-1].step_seconds

    def _prompts(self, rows: int, length: int) -> list[tuple[int, ...]]:
        """Token ids of which no two begin alike, nor like any before them."""
        size = max(2, self._vocab_size)
        found = []
        for number in (next(self._numbers) for _ in range(rows)):
            own = []
            while number:
                number, digit = divmod(number, size)
                own.append(digit)
            found.append(tuple((own + [i % size for i in range(length)])[:length]))
        return found


class _NoText:
    """Nobody reads what these steps generate."""

    def decode(self, ids: Sequence[int]) -> str:
        return ""
