"""A model of a rehearsal: the engine's own scheduler and prefix tree, steps of calibrated length.

No forwards, no torch: KV is never moved, and a step takes as long as its costs say.
"""

from __future__ import annotations

from ..cache.pages import PageAllocator
from ..cache.radix import RadixTree
from ..dag.profile import Costs
from ..dag.sampling import Sampling
from ..dag.serving import Ask, Done, Stepped, Used
from .llm.request import Chunk, Request
from .llm.scheduler import CannotFit, Limits, Scheduler

PAGE_SIZE = 16


class NoKV:
    """KV that is nowhere needs no copying."""

    def copy(self, source: int, target: int, slots: int) -> None: ...


class Rehearsing:
    """One model in virtual time; see `Serving`."""

    def __init__(
        self, costs: Costs, pages: int, page_size: int = PAGE_SIZE, limits: Limits | None = None
    ) -> None:
        self.costs = costs
        self.used = Used()
        self._tree = RadixTree(PageAllocator(pages), page_size)
        limits = limits or Limits(batch_tokens=2048, running=256)
        self._scheduler = Scheduler(self._tree, limits, NoKV())
        self._asks: dict[int, Ask] = {}

    @property
    def busy(self) -> bool:
        return bool(self._scheduler.running) or self._scheduler.waiting > 0

    def add(self, number: int, ask: Ask, now: float) -> None:
        prompt = tuple(ask.prompt)
        self._asks[number] = ask
        self._scheduler.add(
            Request(
                number, prompt, Sampling(), 0, now, ask.priority,
                limit=len(prompt) + len(ask.answer), expected=len(prompt) + ask.room,
            )
        )  # fmt: skip

    def step(self, now: float) -> Stepped:
        scheduler = self._scheduler
        try:
            chunks = scheduler.schedule(now)
        except CannotFit as stuck:  # a run fails this call, and goes on
            scheduler.remove(stuck.request, now)
            del self._asks[stuck.request.number]
            self.used.failed += 1
            return Stepped(0.0, (Done(stuck.request.number, 0),))
        seconds = self._seconds(chunks)
        end = now + seconds
        sampled = [c.request for c in chunks if c.samples]
        scheduler.commit(chunks, end)
        done = []
        for request in sampled:
            request.tokens.append(self._asks[request.number].answer[request.generated])
            if len(request.tokens) >= request.limit:
                scheduler.remove(request, end)
                del self._asks[request.number]
                done.append(Done(request.number, len(request.prompt) - (request.cached or 0)))
        self.used.evicted_tokens = scheduler.holdings.evicted_tokens
        return Stepped(seconds, tuple(done))

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
