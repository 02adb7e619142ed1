"""What is known of the machine and of earlier runs: what costs are reckoned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .estimates import TURNS, Estimate, Estimates, Known
from .nodes import Agent, LLMCall, ToolCall


class Costs(Protocol):
    """Seconds per unit of work on one device, as calibration finds them."""

    @property
    def step(self) -> float: ...
    @property
    def token(self) -> float: ...
    @property
    def token_context(self) -> float: ...
    @property
    def decode_row(self) -> float: ...
    @property
    def kv_token(self) -> float: ...
    @property
    def kv_bytes(self) -> int: ...
    @property
    def load(self) -> float: ...
    @property
    def offload(self) -> float:
        """Bytes per second from device to host."""
        ...

    @property
    def restore(self) -> float:
        """Bytes per second from host to device."""
        ...

    @property
    def matmul_peak(self) -> float:
        """FLOP/s of the fastest product measured; 0 where nothing was."""
        ...


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of the machine and of earlier runs."""

    costs: Mapping[str, Costs]
    """By model alias."""
    running: int = 256
    """Most requests in a step."""
    loaded: frozenset[str] = frozenset()
    """Models that need not be loaded."""
    together: bool = True
    """Whether all models fit into memory at once; else they take turns, see `phases`."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """Node -> tokens its answers have had; where nothing is known, max_tokens."""
    tool_seconds: Mapping[str, float] = field(default_factory=dict)
    """Node -> seconds its tool has taken."""
    estimates: Estimates = field(default_factory=Estimates)
    """What is known of operators whose nodes are in neither of these."""
    side: Literal["low", "mean", "high"] = "mean"
    """Which end of the estimates is taken."""

    def length(self, node: LLMCall) -> float:
        """Tokens of an answer."""
        return self.lengths.get(node.id) or self._of(self.estimates.answer(node))

    def serial(self, node: LLMCall) -> float:
        """Tokens that a call generates one after the other: those of an answer for every turn that
        is expected. What is said in one is there already when the next one begins, and what its
        tools do takes no time, as in a rehearsal."""
        turns = min(TURNS, node.max_turns) if isinstance(node, Agent) else 1
        return turns * self.length(node)

    def generated(self, node: LLMCall) -> float:
        """Tokens that a call generates: its generations are decoded side by side."""
        return node.sampling.n * self.serial(node)

    def read(self, node: LLMCall, prompt: float) -> float:
        """KV tokens that the steps of a call read: its prompt once for all its generations."""
        return self.serial(node) * (prompt + self.generated(node) / 2)

    def tool(self, node: ToolCall) -> float:
        """Seconds of a tool."""
        return self.tool_seconds.get(node.id) or self._of(self.estimates.tool(node))

    def known(self, node: LLMCall) -> Known:
        """Where the length of a node's answers comes from."""
        return "history" if node.id in self.lengths else self.estimates.answer(node).known

    def _of(self, estimate: Estimate) -> float:
        found: float = getattr(estimate, self.side)
        return found
