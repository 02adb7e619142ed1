"""A model of a rehearsal: the engine's own scheduler and prefix tree, steps of calibrated length.

No forwards, no torch: KV is never moved, and a step takes as long as its costs say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf

from ..cache.holding import Times, hold_for
from ..cache.host import HostTier
from ..cache.pages import PageAllocator
from ..cache.radix import RadixTree
from ..dag.profile import Costs
from ..dag.sampling import Sampling
from ..dag.serving import Ask, Done, Stepped, Used
from .llm.costs import Costs as Measured
from .llm.counters import Tally
from .llm.request import Chunk, Request
from .llm.scheduler import CannotFit, Limits, Scheduler
from .llm.warming import Head, Warming
from .llm.worth import worth_of

PAGE_SIZE = 16
PLAIN = Sampling()
"""What is drawn makes no difference here."""


class NoKV:
    """KV that is nowhere: moving it is counted, as it takes its time."""

    def __init__(self, costs: Costs, page_size: int, used: Used) -> None:
        self._costs, self._page_size, self._used = costs, page_size, used
        self._seconds = 0.0

    def copy(self, source: int, target: int, slots: int) -> None: ...

    def offload(self, device: Sequence[int], host: Sequence[int]) -> None:
        tokens = len(device) * self._page_size
        self._used.offloaded_tokens += tokens
        self._used.offload_seconds += self._took(tokens, self._costs.offload)

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None:
        tokens = len(host) * self._page_size
        self._used.restored_tokens += tokens
        self._used.restore_seconds += self._took(tokens, self._costs.restore)

    def passed(self) -> float:
        """Seconds of moves since it was asked last: steps wait for them."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _took(self, tokens: int, rate: float) -> float:
        seconds = tokens * self._costs.kv_bytes / rate
        self._seconds += seconds
        return seconds


@dataclass(slots=True)
class Call:
    """A call under way: a request for each of its generations, as in an engine."""

    number: int
    answers: Sequence[Sequence[int]]
    requests: dict[int, Request] = field(default_factory=dict)
    """Those that have not ended, by number."""
    computed: int = 0
    """Prompt tokens that the first of them did not find in the cache."""


class RehearsedModel:
    """One model in virtual time; see `Serving`. `host_pages`: of its host tier."""

    def __init__(
        self, costs: Costs, pages: int, page_size: int = PAGE_SIZE, limits: Limits | None = None,
        host_pages: int = 0,
    ) -> None:  # fmt: skip
        self.costs = costs
        self.used = Used()
        self._pages, self._host_pages, self._page_size = pages, host_pages, page_size
        self._limits = limits or Limits(batch_tokens=2048, running=256)
        self._mover = NoKV(costs, page_size, self.used)
        self._calls: dict[int, Call] = {}
        self._call_of: dict[int, Call] = {}
        """By the numbers of requests."""
        self._evicted = 0
        self._numbers, self._beginnings = count(), count(1 << 60)
        """Of requests; those that compute beginnings come after all others."""
        self.unload()

    def unload(self) -> None:
        costs = self.costs if isinstance(self.costs, Measured) else None
        host = None
        if self._host_pages and costs is not None:
            known = costs
            worth = worth_of(lambda: known)
            self.used.host_tokens = self._host_pages * self._page_size
            host = HostTier(PageAllocator(self._host_pages), self._mover, worth)
        self._evicted = self.used.evicted_tokens
        self._tree = RadixTree(PageAllocator(self._pages), self._page_size, host=host)
        self._scheduler = Scheduler(self._tree, self._limits, self._mover, costs)
        self._warming = Warming(self._scheduler, Tally())

    @property
    def kv_tokens(self) -> int:
        """Tokens that its KV memory holds."""
        return self._pages * self._page_size

    @property
    def busy(self) -> bool:
        return bool(self._calls) or self._warming.waiting

    @property
    def waiting(self) -> int:
        return self._scheduler.waiting

    def add(self, number: int, ask: Ask, now: float) -> None:
        prompt, call = tuple(ask.prompt), Call(number, ask.answers)
        self._calls[number] = call
        for index, answer in enumerate(ask.answers):
            request = Request(
                next(self._numbers), prompt, PLAIN, 0, now, ask.priority, index=index,
                limit=len(prompt) + len(answer), expected=len(prompt) + ask.room,
            )  # fmt: skip
            call.requests[request.number] = request
            self._call_of[request.number] = call
            self._scheduler.add(request)

    def drop(self, number: int, now: float) -> bool:
        call = self._calls.get(number)
        for request in list(call.requests.values()) if call is not None else ():
            self._end(request, now)
        return call is not None

    def warm(
        self, tokens: Sequence[int], now: float, awaited: Sequence[Times] = ()
    ) -> Callable[[float], None]:
        warming, size = self._warming, len(tokens)
        seconds = inf
        if isinstance(self.costs, Measured):
            host = size <= self._host_pages * self._page_size
            share = size / (self._pages * self._page_size)
            seconds = hold_for(awaited, self.costs.loss(size, host), share).seconds
        head = Head(tuple(tokens), now + seconds)
        warming.add(head)
        return lambda now: warming.release(head, now)

    def step(self, now: float) -> Stepped:
        self._warming.begin(self._beginnings, now)
        asked = self._scheduler.running or self._scheduler.waiting
        stepped = self._step(now) if asked else Stepped(0.0, ())
        self._warming.end(now + stepped.seconds)
        return stepped

    def _step(self, now: float) -> Stepped:
        scheduler = self._scheduler
        try:
            chunks = scheduler.schedule(now)
        except CannotFit as stuck:  # a run fails this call, and goes on
            if stuck.request.warm:
                scheduler.remove(stuck.request, now, keep=False)
                return Stepped(0.0, ())
            number = self._call_of[stuck.request.number].number
            self.drop(number, now)
            self.used.failed += 1
            return Stepped(0.0, (Done(number, 0, self.kv_tokens),))
        seconds = self._seconds(chunks) + self._mover.passed()
        end = now + seconds
        sampled = [c.request for c in chunks if c.samples]
        scheduler.commit(chunks, end)
        done = []
        for request in sampled:
            call = self._call_of[request.number]
            request.tokens.append(call.answers[request.index][request.generated])
            if len(request.tokens) >= request.limit:
                self._end(request, end)
                if not call.requests:
                    done.append(Done(call.number, call.computed))
        self.used.evicted_tokens = self._evicted + scheduler.holdings.evicted_tokens
        return Stepped(seconds, tuple(done))

    def _end(self, request: Request, now: float) -> None:
        self._scheduler.remove(request, now)
        call = self._call_of.pop(request.number)
        if request.index == 0:
            call.computed = len(request.prompt) - (request.cached or 0)
        del call.requests[request.number]
        if not call.requests:
            del self._calls[call.number]

    def _seconds(self, chunks: list[Chunk]) -> float:
        """How long the step takes, counted on the way."""
        costs, used = self.costs, self.used
        prefill = decode = 0.0
        rows = 0
        for chunk in chunks:
            if chunk.count > 1 or chunk.start < len(chunk.request.prompt):
                seen = chunk.start + chunk.count / 2
                prefill += chunk.count * (costs.token + costs.token_context * seen)
                used.prefill_tokens += chunk.count
            else:
                rows += 1
        held = self._held(chunks)
        if rows:
            read = held * rows / len(chunks)
            decode = rows * costs.decode_row + read * costs.kv_token
            used.read_tokens += read
        seconds = costs.step + prefill + decode
        share = prefill / (prefill + decode) if prefill + decode else 0.0
        used.prefill_seconds += prefill + costs.step * share
        used.decode_seconds += decode + costs.step * (1 - share)
        used.steps += 1
        used.decode_tokens += sum(chunk.samples for chunk in chunks)
        used.held_tokens = max(used.held_tokens, held)
        kept = self._tree.allocator.total - self._tree.allocator.free
        used.kept_tokens = max(used.kept_tokens, kept * self._tree.page_size)
        used.page_seconds += held / self._tree.page_size * seconds
        return seconds

    def _held(self, chunks: list[Chunk]) -> int:
        """KV tokens that running requests hold, those in common once; without the room kept for
        what is still to come."""
        tree = self._tree
        pages = tree.allocator.total - tree.allocator.free - tree.cached_pages
        ahead = sum(max(0, r.reach - len(r.tokens)) for r in self._scheduler.running)
        return max(0, pages * tree.page_size - ahead)
