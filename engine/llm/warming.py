"""Heads of prompts, kept and computed while the values behind them are awaited.

A head is a beginning that a prompt will surely have. What is there of it is pinned at once, until
the head is released or its time is up. The rest is computed in pieces, each within one step and
only when nothing else could be: a request that arrives meanwhile waits for one piece at most. What
is computed lies in the prefix tree like any other KV; the prompt itself then finds it there, token
by token, or computes what differs.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from ...cache.paths import common
from ...cache.radix import RadixTree
from ...dag.sampling import Sampling
from .counters import Tally
from .request import Request
from .scheduler import Scheduler

log = logging.getLogger("plait")
PIECE = 256
"""Most tokens computed in one step that nobody else is in."""
BESIDE = 0.1
"""How much longer a step of others may become by a piece, as a share of it."""
LEAST = 32
"""Fewer missing tokens are left to the prompt itself."""
FORGOTTEN = 60.0
"""Seconds without use after which nobody is taken to ask for what is cached."""
MOST = 64
"""Heads that may wait; further ones are refused."""


@dataclass(slots=True, eq=False)
class Head:
    """The beginning of a prompt."""

    tokens: tuple[int, ...]
    until: float
    """When it is no longer pinned, by the engine's clock."""
    salt: str = ""
    found: int = 0
    """Tokens that were cached before."""
    computed: int = 0
    """Tokens computed for it."""
    met: int = 0
    """Tokens that the prompt that has most of it in common begins with."""
    pin: int | None = None


@dataclass(slots=True)
class Warming:
    """The heads that wait, and those that are kept. Used on the step thread only."""

    scheduler: Scheduler
    tally: Tally
    _new: list[Head] = field(default_factory=list)
    _waiting: deque[Head] = field(default_factory=deque)
    _kept: dict[Head, None] = field(default_factory=dict)
    """With a pin, in the order in which they came."""
    _soonest: float = inf
    """No pin ends before."""
    _piece: tuple[Head, Request] | None = None

    @property
    def tree(self) -> RadixTree:
        return self.scheduler.tree

    def add(self, head: Head) -> None:
        """Keep it from the next step on, and compute what is missing when there is time."""
        if self.scheduler.limits.prefix_cache:  # else nothing of it could be found again
            self._new.append(head)

    def release(self, head: Head, now: float) -> None:
        """Nobody waits for it any more; a second time does nothing."""
        for there in (self._new, self._waiting):
            if head in there:
                there.remove(head)
        self._let_go(head, now)

    def met(self, prompt: Sequence[int], salt: str) -> None:
        """A prompt has come: what it has in common with heads was of use."""
        computed = (head for head in self._kept if head.computed)
        for head in (*self._new, *self._waiting, *computed):
            if head.salt == salt:
                before = _used(head)
                head.met = max(head.met, common(head.tokens, prompt, 0))
                self.tally.warmed_used += _used(head) - before

    @property
    def waiting(self) -> bool:
        return bool(self._new or self._waiting)

    def begin(self, numbers: Iterator[int], now: float) -> None:
        """Put a piece into the next step, if there is room in it."""
        self._take(now)
        size = self._size() if self._waiting else 0
        while self._waiting and size >= LEAST:
            head = self._waiting[0]
            missing = self._missing(head)
            if missing < LEAST:
                self._waiting.popleft()
                self._keep(head, now)
                continue
            end = len(head.tokens) - max(0, missing - size)
            if not self._room(head, end - len(head.tokens) + missing, now):
                self._waiting.popleft()
                continue
            request = Request(
                next(numbers), head.tokens[:end], Sampling(max_tokens=1), 0, now, salt=head.salt,
                limit=end + 1, expected=end, warm=True,
            )  # fmt: skip
            self.scheduler.add(request)
            self._piece = head, request
            return

    def end(self, now: float) -> None:
        """The step has run, and its piece is in the tree, unless there was no room for it."""
        if self._piece is None:
            return
        (head, request), self._piece = self._piece, None
        ran = request.computed == len(request.prompt)
        if request.node is not None or not ran:  # a step that broke has removed it already
            self.scheduler.remove(request, now)
        if not ran:
            if head in self._waiting:
                self._waiting.remove(head)
            return
        done, before = len(request.prompt) - (request.cached or 0), _used(head)
        if not head.computed:
            head.found = request.cached or 0
        head.computed += done
        self.tally.warmed_tokens += done
        self.tally.warmed_used += _used(head) - before

    def afresh(self, now: float) -> Warming:
        """One without heads, in place of this one that has just broken."""
        log.exception("heads of prompts are forgotten")
        for request in [r for r in self.scheduler.requests() if r.warm]:
            self.scheduler.remove(request, now, keep=False)
        return Warming(self.scheduler, self.tally)

    # ---- inside ----------------------------------------------------------------------------

    def _take(self, now: float) -> None:
        """Let go what is over, and pin what is there of the heads that have come."""
        if self._soonest <= now:
            for head in [h for h in self._kept if h.until <= now]:
                self._let_go(head, now)
            self._soonest = min((h.until for h in self._kept), default=inf)
        for head in self._new:
            self._keep(head, now)
            same = (head.tokens, head.salt)
            known = any(same == (other.tokens, other.salt) for other in self._waiting)
            if not known and len(self._waiting) < MOST and self._missing(head) >= LEAST:
                self._waiting.append(head)
        self._new.clear()

    def _room(self, head: Head, count: int, now: float) -> bool:
        """Whether there is room for `count` tokens of the head that nobody misses: computing them
        early saves nothing where what has to go for them is computed again. Once its time is up,
        only free memory."""
        tree = self.tree
        need = -(-count // tree.page_size) + 1 - tree.allocator.free
        return need <= 0 or (head.until > now and tree.leaves.spare(need, now - FORGOTTEN, now))

    def _size(self) -> int:
        """Tokens of a piece in the next step: many when it is empty, few beside decoding, none
        beside or before the prefill of a prompt that is there."""
        scheduler, costs = self.scheduler, self.scheduler.holdings.costs
        if scheduler.waiting or any(r.prefilling for r in scheduler.running):
            return 0
        if not scheduler.running:
            return PIECE
        step = costs.decode_seconds(len(scheduler.running), 0)
        return min(PIECE, int(BESIDE * step / costs.token)) if costs.token > 0 else PIECE

    def _missing(self, head: Head) -> int:
        return len(head.tokens) - self.tree.match(head.tokens, head.salt).total

    def _keep(self, head: Head, now: float) -> None:
        """Pin what is there of it, instead of what was there before."""
        before, pin = head.pin, self.tree.pin(head.tokens, head.until, now, head.salt)
        if pin is None:
            return
        if before is not None:
            self.tree.unpin(before, now)
        head.pin = pin
        self._kept[head] = None
        self._soonest = min(self._soonest, head.until)

    def _let_go(self, head: Head, now: float) -> None:
        self._kept.pop(head, None)
        if head.pin is not None:
            self.tree.unpin(head.pin, now)
            head.pin = None


def _used(head: Head) -> int:
    """Tokens computed for a head with which a prompt then began."""
    return max(0, min(head.met, head.found + head.computed) - head.found)
