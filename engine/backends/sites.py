"""What the workers of a backend hold, and what calls cost them: the numbers that `dispatch` goes
by."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from ...dag.dispatching import Site
from ...dag.imagined import CHARACTERS
from ...dag.messages import Message
from ..call_work import work_of
from ..generation import Generation
from .backend import Call
from .local import LocalBackend
from .placing import costs_of

if TYPE_CHECKING:
    from ..llm.costs import Costs


log = logging.getLogger("plait")


class Sites:
    """The workers of one backend. Costs are looked up anew when models were loaded."""

    def __init__(self, workers: Sequence[LocalBackend]) -> None:
        self._workers = workers
        self._there: tuple[frozenset[str], ...] = ()
        self._costs: dict[str, Costs] = {}
        self._kv: dict[str, int] = {}

    def name(self, alias: str) -> str:
        """The model of an alias."""
        return self._workers[0].shelf().name(alias)

    def expected(self, call: Call) -> float:
        """Seconds of work in a call before it is made; its answers are as long as is known."""
        prompt, sampling = call.prompt, call.sampling
        if isinstance(prompt, str):
            tokens = len(prompt) / CHARACTERS
        elif prompt and isinstance(prompt[0], Message):
            tokens = sum(len(m.content) for m in prompt if isinstance(m, Message)) / CHARACTERS
        else:
            tokens = len(prompt)
        answer = min(call.expected or sampling.max_tokens, sampling.max_tokens)
        return self._work(self.name(call.model), tokens, answer * sampling.n)

    def found(self, call: Call, done: Sequence[Generation]) -> float | None:
        """Seconds of work that it was; None when that cannot be told: no answer is lost by it."""
        computed = sum(g.usage.prompt_tokens - g.usage.cached_tokens for g in done)
        answer = sum(g.usage.completion_tokens for g in done)
        try:
            return self._work(self.name(call.model), computed, answer)
        except Exception as error:
            log.debug("how much work a call was is not known: %s", error)
            return None

    def all(self, asked: Collection[str], coming: Sequence[Collection[str]]) -> list[Site]:
        """Every worker. `asked`: models that have calls; `coming`: by worker, what it is loading
        for others' calls."""
        shelves = [worker.shelf() for worker in self._workers]
        there = [frozenset(map(shelf.name, shelf.loaded)) for shelf in shelves]
        loads = {name: self._of(name).load for name in {*asked, *chain.from_iterable(there)}}
        return [
            Site(
                resident, frozenset(guests),
                {shelf.name(a): c.waiting for a, c in worker.counters().items()},
                shelf.sizes(), shelf.limit, loads,
            )
            for worker, shelf, resident, guests in zip(
                self._workers, shelves, there, coming, strict=True
            )
        ]  # fmt: skip

    def _work(self, model: str, prompt: float, answer: float) -> float:
        return work_of(self._of(model), prompt, answer, self._kv.get(model))

    def _of(self, model: str) -> Costs:
        there = tuple(frozenset(worker.shelf().loaded) for worker in self._workers)
        if there != self._there:
            self._there = there
            self._costs.clear()
            for worker in self._workers:
                shelf = worker.shelf()
                self._kv |= {shelf.name(a): llm.kv_tokens for a, llm in shelf.loaded.items()}
        if model not in self._costs:
            self._costs |= costs_of((model,), self._workers)
        return self._costs[model]
