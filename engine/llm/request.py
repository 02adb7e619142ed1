"""A request: one generation asked of the engine. Its tokens, and how far their KV has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...cache.pages import runs_of

if TYPE_CHECKING:
    from ...cache.node import Node
    from ...dag.sampling import Sampling
    from ..generation import TokenLogprob
    from .grammar import Grammar
    from .stops import TextStream

Run = tuple[int, int]
"""(first slot, slots): neighbours in the pool."""


@dataclass(slots=True, eq=False)
class Request:
    """Prefill, decode and resuming are all the same: compute `tokens[computed:]`.

    Where its KV lies: `tokens[:shared]` in tree nodes it holds, the rest in pages of its own.

        tokens    |--- prompt ----------------|-- generated --|
        KV        |-- shared --|-- private -----|               shared <= computed < len(tokens)
    """

    number: int
    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    """Its own: differs between the generations of one prompt."""
    arrival: float
    priority: float = 0.0
    salt: str = ""
    warm: bool = False
    """Only its prompt is computed, and nothing generated."""
    limit: int = 0
    """Length at which it ends: the prompt and max_tokens, or the context."""
    expected: int = 0
    """Length it is expected to reach, which admission makes room for."""
    index: int = 0
    """Which of the generations of one call; the first counts their prompt."""
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    shared: int = 0
    node: Node | None = None
    """Where the held path ends; None while it waits."""
    pages: list[int] = field(default_factory=list)
    """Its own, from position `shared` on."""
    cached: int | None = None
    """Prompt tokens found in the cache when it was first admitted."""
    preemptions: int = 0
    passed: int = 0
    """How often others were admitted before it although it was first in order."""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    grammar: Grammar | None = None
    stream: TextStream | None = None
    reach: int = 0
    """Positions its pages reach."""
    path: list[Node] = field(default_factory=list)
    path_version: int = -1
    on_begin: Callable[[], object] | None = None
    """To be called when it is admitted, on the step thread; again after it has given way."""

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.prompt)

    @property
    def left(self) -> int:
        """Tokens whose KV is still to be computed."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """More than its newest token is to be computed."""
        return self.left > 1

    def nodes(self, version: int) -> list[Node]:
        """Tree nodes of `tokens[:shared]`, root first."""
        if self.path_version != version:
            self.path = self.node.path() if self.node else []
            self.path_version = version
        return self.path

    def runs(self, start: int, end: int, page_size: int) -> list[Run]:
        """Slots of its own positions `start` to `end`, as runs."""
        if start >= end:
            return []
        first, skip = divmod(start - self.shared, page_size)
        last = (end - 1 - self.shared) // page_size
        return cut_runs(runs_of(self.pages[first : last + 1]), skip, end - start, page_size)

    def slots_ahead(self, position: int, page_size: int) -> int:
        """How many more positions lie side by side behind one of its own."""
        page, offset = divmod(position - self.shared, page_size)
        pages = self.pages
        slots = page_size - 1 - offset
        while page + 1 < len(pages) and pages[page + 1] == pages[page] + 1:
            page += 1
            slots += page_size
        return slots


def cut_runs(pages: list[tuple[int, int]], skip: int, length: int, page_size: int) -> list[Run]:
    """Page runs as slot runs, without the first `skip` slots, `length` slots long."""
    runs: list[Run] = []
    for page, count in pages:
        start, slots = page * page_size, count * page_size
        if skip >= slots:
            skip -= slots
            continue
        taken = min(slots - skip, length)
        if taken > 0:
            runs.append((start + skip, taken))
        length -= taken
        skip = 0
    return runs


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tokens of one request that one step computes."""

    request: Request
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def samples(self) -> bool:
        """Its last token's logits choose the next token."""
        return self.end == len(self.request.tokens) and not self.request.warm
