"""What the engine has done so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Counters:
    """A snapshot. All numbers but the last group only grow."""

    requests: int = 0
    finished: int = 0
    failed: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    """Prompt tokens asked for."""
    cached_tokens: int = 0
    """Of those, found in the cache."""
    computed_tokens: int = 0
    """Rows of all forwards: prefill, decode and what was computed again."""
    prefill_tokens: int = 0
    """Rows that computed prompts, or computed again after a preemption."""
    generated_tokens: int = 0
    steps: int = 0
    distinct_read: int = 0
    """KV tokens read, a shared run once per step."""
    total_read: int = 0
    """KV tokens read if each request had read its own."""
    flops: float = 0.0
    bytes_read: float = 0.0
    """Weights and distinct KV."""
    evicted_tokens: int = 0
    preemptions: int = 0
    model_seconds: float = 0.0
    """Time in forwards."""
    step_seconds: float = 0.0
    """Time in steps, forwards included."""
    running: int = 0
    waiting: int = 0
    free_pages: int = 0
    cached_pages: int = 0
    held_pages: int = 0
    total_pages: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of asked prompt tokens that were found in the cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def __sub__(self, earlier: Counters) -> Counters:
        """What happened since an earlier snapshot; the last group stays as it is now."""
        kept = {"running", "waiting", "free_pages", "cached_pages", "held_pages", "total_pages"}
        values = {
            f.name: getattr(self, f.name) - (0 if f.name in kept else getattr(earlier, f.name))
            for f in fields(self)
        }
        return Counters(**values)


@dataclass(slots=True)
class Tally:
    """The counters while they count: what the step loop adds to."""

    requests: int = 0
    finished: int = 0
    failed: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    distinct_read: int = 0
    total_read: int = 0
    flops: float = 0.0
    bytes_read: float = 0.0
    model_seconds: float = 0.0
    step_seconds: float = 0.0

    def values(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self)}
