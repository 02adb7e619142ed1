"""The dispatch of workers, for a rehearsal: the same policy, asked about calls by number."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from ..dag.ahead import Ahead
from ..dag.dispatching import Site, Takeover
from ..dag.imagined import CHARACTERS
from ..dag.logical import Plan
from ..dag.profile import Costs
from ..dag.serving import Ask, Done
from .backends.workers import PREFIX_CHARS
from .call_work import work_of
from .dispatch import Dispatch
from .routing import REST
from .ticket import Ticket


class RehearsedDispatch:
    """See `Dispatching`. `names`: the model of an alias; `kv_tokens`: what each model's memory
    holds; `characters`: per token."""

    rest = REST

    def __init__(
        self, workers: int, plan: Plan, names: Mapping[str, str], costs: Mapping[str, Costs],
        kv_tokens: Mapping[str, int], characters: float = CHARACTERS,
    ) -> None:  # fmt: skip
        self._dispatch = Dispatch(workers)
        if plan.placement is not None:
            self._dispatch.homes.follow(plan.placement, names, plan)
        self._costs, self._kv = costs, kv_tokens
        self._beginning = max(1, round(PREFIX_CHARS / characters))
        self._calls: dict[int, tuple[Ticket, Ask]] = {}
        self._numbers: dict[Ticket, int] = {}

    def begins(
        self, number: int, model: str, step: str, ask: Ask, has: Sequence[bool],
        talk: Hashable = None,
    ) -> int:  # fmt: skip
        if number not in self._calls:
            seconds = self._work(model, len(ask.prompt), ask.room * len(ask.answers))
            end = self._beginning if ask.first is None else min(ask.first, self._beginning)
            key = (model, tuple(ask.prompt[:end]))
            ticket = Ticket(model, step, key, talk, talk is not None, seconds, ask.priority)
            self._calls[number], self._numbers[ticket] = (ticket, ask), number
        ticket, _ = self._calls[number]
        worker = self._dispatch.choose(ticket, has)
        self._dispatch.begins(ticket, worker)
        return worker

    def waits(self, number: int, missing: bool) -> None:
        self._dispatch.waits(self._calls[number][0], missing)

    def ends(self, number: int, done: Done | None) -> None:
        ticket, ask = self._calls[number]
        if done is None:
            self._dispatch.ends(ticket)
            return
        ticket.taken = None  # it has ended where it was
        answers = sum(map(len, ask.answers))
        self._dispatch.ends(ticket, self._work(ticket.model, done.computed, answers))
        del self._calls[number], self._numbers[ticket]

    def idle(self, worker: int) -> bool:
        return self._dispatch.idle(worker)

    def freed(self, worker: int, has: Sequence[str], most: int) -> tuple[int, ...]:
        missing = self._dispatch.missing()
        wanted = [model for model in has if model in missing]
        found = self._dispatch.takeable(worker, wanted, most) if wanted else ()
        return tuple(self._numbers[ticket] for ticket in found)

    def steal(self, worker: int, sites: Sequence[Site]) -> Takeover | None:
        steal = self._dispatch.steal(worker, sites)
        if steal is None or steal.load:
            return None if steal is None else Takeover(steal.model, steal.out)
        taken = self._dispatch.taken(steal, sites)
        return Takeover(steal.model, (), tuple(self._numbers[ticket] for ticket in taken))

    def dropped(self, worker: int) -> None:
        self._dispatch.stealing.dropped(worker)

    def view(self, ahead: Ahead, worker: int) -> Ahead:
        return self._dispatch.homes.view(ahead, worker)

    def _work(self, model: str, prompt: float, answer: float) -> float:
        return work_of(self._costs[model], prompt, answer, self._kv.get(model))
