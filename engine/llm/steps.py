"""What single steps did: the numbers behind hit rate, sharing and utilisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .attention.plan import Layout
    from .request import Chunk
    from .work import Work

KEPT = 1024
"""Steps remembered."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the loop."""

    began: float
    """In the engine's clock."""
    requests: int
    asked_tokens: int
    """Prompt tokens of the calls that began in it."""
    cached_tokens: int
    """Of those, found in the cache."""
    computed_tokens: int
    """Rows of the forward."""
    prefill_tokens: int
    """Of those, rows that computed prompts, or computed again after a preemption."""
    generated_tokens: int
    distinct_read: int
    """KV tokens read, a shared run once."""
    total_read: int
    """KV tokens read if each request had read its own."""
    flops: float
    bytes_read: float
    """Weights and distinct KV."""
    model_seconds: float
    """Time in the forward."""
    step_seconds: float
    """Time in all, the forward included."""

    @property
    def hit_rate(self) -> float:
        """Share of the prompt tokens asked for that were found in the cache."""
        return self.cached_tokens / self.asked_tokens if self.asked_tokens else 0.0

    @classmethod
    def of(
        cls, layout: Layout, sampled: int, work: Work, began: float, model: float, whole: float
    ) -> Step:
        fresh = _fresh(layout.chunks)
        return cls(
            began=began,
            requests=len(layout.chunks),
            asked_tokens=sum(len(c.request.prompt) for c in fresh),
            cached_tokens=sum(c.request.cached or 0 for c in fresh),
            computed_tokens=layout.rows,
            prefill_tokens=sum(
                c.count for c in layout.chunks if c.count > 1 or c.start < len(c.request.prompt)
            ),
            generated_tokens=sampled,
            distinct_read=layout.distinct_read,
            total_read=layout.total_read,
            flops=work.flops(layout),
            bytes_read=work.bytes_read(layout),
            model_seconds=model,
            step_seconds=whole,
        )


def _fresh(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The first chunks of prompts that somebody asked for, each counted once."""
    return [
        c
        for c in chunks
        if c.start == c.request.cached and c.start < len(c.request.prompt)
        and not (c.request.preemptions or c.request.index or c.request.warm)
    ]  # fmt: skip
