"""What a plan will cost, in seconds, tokens and steps, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .estimates import Known
from .rehearsed import Outgrown


@dataclass(frozen=True, slots=True)
class Cost:
    """The predicted cost of a plan; see `pricing.py`."""

    seconds: float
    prefill_seconds: float
    decode_seconds: float
    tool_seconds: float
    """On the critical path."""
    load_seconds: float
    path_seconds: float
    """The longest chain of one row, alone on the machine."""
    prefill_tokens: float
    decode_tokens: float
    decode_steps: float
    kv_tokens: float
    """Everything computed, kept at once."""
    kv_bytes: float
    loads: tuple[str, ...]
    """Models in the order in which they are loaded."""
    path: tuple[str, ...]
    """Nodes of the critical path, by the names under which a run counts them."""
    bound: str
    """What takes most: prefill, decode, loads, or the critical path."""
    certain: bool
    """Whether lengths of answers have been seen; else max_tokens was taken, which is the most."""
    low: float = 0.0
    high: float = 0.0
    """Between which `seconds` lies, by what lengths, tools and costs may be off."""
    known: Known = "limit"
    """Where lengths come from: the least known of them."""
    measured: bool = False
    """Whether costs were measured on this machine; else they are those of a small CPU model."""
    agents: bool = False
    """Whether agents are on the critical path: their tools and tasks are not in its seconds, as
    nobody knows before which they will call."""
    workers: int = 1
    rehearsed: RehearsedCost | None = None
    """What the batch came to in virtual time; None when it was only summed up."""

    def as_dict(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One node in a rehearsal."""

    calls: int
    merged: int
    """Of those, answered by an equal one."""
    prompt_tokens: int
    prefill_tokens: int
    """Prompt tokens that the cache did not have."""
    generated_tokens: int
    seconds: float
    """From asking to having, on average over the calls made."""


@dataclass(frozen=True, slots=True)
class RehearsedCost:
    """What only a rehearsal can tell: the batch in virtual time."""

    rows: int
    """That were rehearsed; with fewer than all, seconds are extrapolated."""
    kv_peak_tokens: int
    """Most KV tokens held by running calls at once."""
    kv_page_seconds: float
    """KV pages held x seconds."""
    kv_read_tokens: float
    evicted_tokens: int
    offload_seconds: float
    """To bring KV to the host tier; without one, what it would take for all that was evicted."""
    restore_seconds: float
    """To bring it back."""
    idle_seconds: float
    """In which only tools ran."""
    busy_seconds: float
    """Of the busiest worker."""
    failed_calls: int
    """Calls that the KV memory cannot hold even alone."""
    nodes: Mapping[str, NodeCost]
    host_tokens: int = 0
    """That the host tier holds."""
    offloaded_tokens: int = 0
    restored_tokens: int = 0
    tool_calls: int = 0
    tool_seconds: float = 0.0
    """Summed over those calls, which overlap with each other and with the engine."""
    outgrown: Outgrown | None = None
    """The first of the failed calls."""


def loads_of(loads: Sequence[str], workers: int) -> int:
    """Loads of models in all: those that a cost lists, and that of the first model, which several
    workers have when they begin."""
    return len(loads) + (workers > 1)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, 6) if isinstance(value, float) else value
