"""What is known of every node: its step of the plan, its counters of the run, its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...dag.names import counted_name
from .facts import Facts

LLMS = ("LLMCall", "Agent")


@dataclass(frozen=True, slots=True)
class Account:
    """One node. A number is None where nobody knows it."""

    step: Mapping[str, Any]
    ran: Mapping[str, Any]
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What the cost model makes of the tokens that it had, beside the engine's own seconds."""
    expected: Mapping[str, Any] = field(default_factory=dict)
    """What was expected of it when the run began."""

    @property
    def llm(self) -> bool:
        return "model" in self.step or self.ran.get("operator") in LLMS

    @property
    def calling(self) -> bool:
        """Whether it calls models or tools at all."""
        return self.llm or "effect" in self.step or bool(self.ran)

    @property
    def branch(self) -> bool:
        """Whether values decide if it runs, and its planned calls are the most there can be."""
        return self.step.get("when") == "branch" and not self.expected

    # -- predicted -----------------------------------------------------------------------------

    @property
    def calls(self) -> tuple[int, int] | None:
        """Calls asked for, and those left once equal ones are merged."""
        if self.expected:
            asked: int = self.expected["calls"]
            return asked, asked - self.expected["merged"]
        if "calls" in self.step:
            return self.step["calls"], self.step.get("merged", self.step["calls"])
        return None

    @property
    def prefill(self) -> tuple[int, int] | None:
        """Prompt tokens asked for, and those left to compute."""
        for source, asked, left in (
            (self.expected, "prompt_tokens", "prefill_tokens"),
            (self.engine, "prefill_asked", "prefill"),
            (self.step, "prefill_asked", "prefill_computed"),
        ):
            if self.llm and asked in source and left in source:
                return source[asked], source[left]
        return None

    @property
    def decode(self) -> int | None:
        known = self.expected.get("generated_tokens", self.engine.get("decode"))
        return known if self.llm else None

    @property
    def each(self) -> float | None:
        """Seconds that a call takes; a tool of which nothing is known is expected to take none."""
        return self.expected.get("seconds") or None

    # -- measured ------------------------------------------------------------------------------

    @property
    def made(self) -> int | None:
        """Calls that were really made; None when the node has not run."""
        return int(self.ran["calls"] - self.ran["merged"]) if self.ran else None

    @property
    def computed(self) -> int | None:
        if not self.ran or not self.llm:
            return None
        return int(self.ran["prompt_tokens"] - self.ran["cached_tokens"])

    @property
    def written(self) -> int | None:
        return int(self.ran["completion_tokens"]) if self.ran and self.llm else None

    @property
    def took(self) -> float | None:
        """Seconds that a call took."""
        return float(self.ran["seconds"]) / self.made if self.made else None


def accounts(facts: Facts) -> dict[str, Account]:
    """All that is known of every node, by its name."""
    steps = steps_by_name(facts.plan.get("steps", ()))
    ran, engine, expected = facts.nodes, facts.engine_nodes, facts.expected_nodes
    return {
        name: Account(*(known.get(name, {}) for known in (steps, ran, engine, expected)))
        for name in dict.fromkeys((*steps, *ran))
    }


def steps_by_name(steps: Any) -> dict[str, Mapping[str, Any]]:
    """Steps of a plan by the names under which a run counts their nodes."""
    ids: dict[str, str] = {str(step["number"]): str(step["id"]) for step in steps}

    def way(prefix: str) -> tuple[str, ...]:
        if prefix.endswith(".until"):
            return (*way_of(prefix.removesuffix(".until")), "until")
        return way_of(prefix) if prefix else ()

    def way_of(number: str) -> tuple[str, ...]:
        return (*way(number.rpartition(".")[0]), ids.get(number, number))

    return {counted_name(way(str(s["number"]).rpartition(".")[0]), str(s["id"])): s for s in steps}
