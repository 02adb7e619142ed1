"""What computing, reading and copying cost on one device, as fitted by calibration.

Plain numbers: the scheduler, the planner and the simulator use the same object.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class WayOut:
    """Where a request's KV goes when it must give way: whatever is cheaper until it is back."""

    tokens: int
    """Tokens whose KV nobody else uses."""
    move: float
    """Seconds to the host and back; infinite where the host tier could not hold it."""
    compute: float
    """Seconds to compute it again."""

    @property
    def to_host(self) -> bool:
        return self.move < self.compute

    def __str__(self) -> str:
        move = f"{self.move * 1e3:.2f} ms" if self.move < inf else "not possible"
        chosen = "goes to the host" if self.to_host else "is computed again"
        return (
            f"what it loses of {self.tokens} tokens {chosen} (to the host and back {move}, "
            f"computing {self.compute * 1e3:.2f} ms)"
        )


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds as sums of a constant and terms per unit. The defaults suit a small CPU model."""

    step: float = 1e-3
    """Any step."""
    token: float = 1e-4
    """One prefill token."""
    token_context: float = 1e-9
    """One prefill token x one token of its context."""
    decode_row: float = 2e-4
    """One request of a decode step."""
    kv_token: float = 1e-7
    """One KV token that a decode step reads."""
    offload: float = 5e9
    """Bytes per second from device to host."""
    restore: float = 5e9
    """Bytes per second from host to device."""
    kv_bytes: int = 1 << 16
    """KV bytes per token."""
    load: float = 1.0
    """Seconds to load the model."""
    matmul_peak: float = 0.0
    """FLOP/s of the fastest large product measured."""
    memory_peak: float = 0.0
    """Bytes per second of the fastest read measured."""

    def prefill_seconds(self, tokens: int, context: int = 0) -> float:
        """Computing `tokens` behind `context` cached ones."""
        seen = context + tokens / 2
        return self.step + tokens * (self.token + self.token_context * seen)

    def decode_seconds(self, rows: int, kv_tokens: int) -> float:
        """One decode step of so many requests, reading so many distinct KV tokens."""
        return self.step + rows * self.decode_row + kv_tokens * self.kv_token

    def restore_seconds(self, tokens: int) -> float:
        """Bringing KV back from the host."""
        return tokens * self.kv_bytes / self.restore

    def offload_seconds(self, tokens: int) -> float:
        return tokens * self.kv_bytes / self.offload

    def way_out(self, tokens: int, context: int, host: bool) -> WayOut:
        """What becomes of `tokens` behind `context` others when their request gives way.

        `host`: whether there is a host tier that could hold them.
        """
        move = self.offload_seconds(tokens) + self.restore_seconds(tokens) if host else inf
        return WayOut(tokens, move, self.prefill_seconds(tokens, context) - self.step)

    def loss(self, tokens: int, host: bool) -> float:
        """Having KV again that had to go: from the host where it moves there, else computed."""
        if host and self.offload_pays(tokens, 0):
            return self.offload_seconds(tokens) + self.restore_seconds(tokens)
        return self.prefill_seconds(tokens)

    def restore_pays(self, tokens: int, context: int) -> bool:
        """Whether bringing KV back is cheaper than computing it behind `context` tokens."""
        return self.restore_seconds(tokens) < self.prefill_seconds(tokens, context) - self.step

    def offload_pays(self, tokens: int, context: int, reuse: float = 0.5) -> bool:
        """Whether moving KV out is cheaper than losing it, if it is wanted again that likely."""
        saved = self.prefill_seconds(tokens, context) - self.step - self.restore_seconds(tokens)
        return self.offload_seconds(tokens) < reuse * saved
