"""What the engine has done so far, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scheduler import Scheduler
    from .steps import Step

NOW = ("running", "waiting", "pins", "free_pages", "cached_pages", "held_pages", "total_pages")
"""Counters that say how things are; all others only grow."""


@dataclass(slots=True)
class Tally:
    """What the step loop counts."""

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
    warmed_tokens: int = 0
    """Of the prefill tokens, those computed for heads, when nothing else was to be done."""
    warmed_used: int = 0
    """Of those, in heads with which a prompt then began."""
    flops: float = 0.0
    bytes_read: float = 0.0
    """Weights and distinct KV."""
    model_seconds: float = 0.0
    """Time in forwards."""
    step_seconds: float = 0.0
    """Time in steps, forwards included."""

    def add(self, step: Step) -> None:
        self.steps += 1
        self.computed_tokens += step.computed_tokens
        self.prefill_tokens += step.prefill_tokens
        self.generated_tokens += step.generated_tokens
        self.distinct_read += step.distinct_read
        self.total_read += step.total_read
        self.flops += step.flops
        self.bytes_read += step.bytes_read
        self.model_seconds += step.model_seconds
        self.step_seconds += step.step_seconds


@dataclass(slots=True)
class Counters(Tally):
    """A snapshot: what was counted, what the scheduler and the tree did, and how things are."""

    preemptions: int = 0
    preempted_to_host: int = 0
    """Preemptions where moving KV to the host and back is cheaper than computing it again."""
    evicted_tokens: int = 0
    offloaded_pages: int = 0
    """Pages that went to the host tier."""
    restored_pages: int = 0
    """Pages that came back from it."""
    pins_made: int = 0
    pins_expired: int = 0
    """Pins whose deadline passed."""
    pins_broken: int = 0
    """Pins that memory pressure ended."""
    running: int = 0
    waiting: int = 0
    pins: int = 0
    free_pages: int = 0
    cached_pages: int = 0
    held_pages: int = 0
    """In nodes that somebody holds, and running requests' own."""
    total_pages: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of asked prompt tokens that were found in the cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def __sub__(self, earlier: Counters) -> Counters:
        """What happened since an earlier snapshot; how things are stays as it is now."""
        return Counters(
            **{
                f.name: getattr(self, f.name) - (0 if f.name in NOW else getattr(earlier, f.name))
                for f in fields(self)
            }
        )


def snapshot(tally: Tally, scheduler: Scheduler) -> Counters:
    """The counters now. While a step begins or ends, what they say of pages may be torn."""
    tree = scheduler.tree
    pages, host = tree.allocator, tree.host
    return Counters(
        **asdict(tally),
        preemptions=scheduler.preemptions,
        preempted_to_host=scheduler.preempted_to_host,
        evicted_tokens=scheduler.holdings.evicted_tokens,
        offloaded_pages=host.offloaded_pages if host else 0,
        restored_pages=host.restored_pages if host else 0,
        pins_made=tree.pins.made,
        pins_expired=tree.pins.expired,
        pins_broken=tree.pins.broken,
        running=len(scheduler.running),
        waiting=scheduler.waiting,
        pins=len(tree.pins),
        free_pages=pages.free,
        cached_pages=tree.cached_pages,
        held_pages=tree.held_pages + sum(len(r.pages) for r in list(scheduler.running)),
        total_pages=pages.total,
    )
