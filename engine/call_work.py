"""How much work a call is: seconds of a worker's time, by the costs of its model.

Not how long the call takes: requests share steps, and each has its part of them.
"""

from __future__ import annotations

from collections import Counter

from ..dag.profile import Costs

RUNNING = 256
"""Most requests that share a step."""
FEW = 8
"""Calls of a model after which it is known how much work they are."""


def work_of(costs: Costs, prompt: float, answer: float, kv_tokens: float | None = None) -> float:
    """Seconds of work in a call with so many prompt tokens to compute and tokens to generate, on a
    worker whose KV memory holds so many tokens."""
    room = RUNNING if kv_tokens is None else kv_tokens / max(1.0, prompt + answer)
    steps = 1 / max(1.0, min(RUNNING, room))
    return work_seconds(costs, prompt, prompt, answer, answer, steps)


def work_seconds(
    costs: Costs, prefill: float, prompt: float, generated: float, length: float, steps: float,
    n: int = 1,
) -> float:  # fmt: skip
    """Engine seconds of a node: `prefill` tokens computed of prompts of `prompt` tokens, and
    `generated` tokens in answers of `length`, `n` behind each prompt, with `steps` engine steps per
    token."""
    reading = prefill * (costs.token + costs.token_context * prompt / 2)
    each = steps * costs.step + costs.decode_row + (prompt / n + length / 2) * costs.kv_token
    return reading + generated * each


class CallWork:
    """What calls have turned out to be, beside what they were taken for: answers end before
    max_tokens, and prompts are found in the cache."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._expected: dict[str, float] = {}
        self._found: dict[str, float] = {}

    def ended(self, model: str, expected: float, found: float) -> None:
        """Seconds of work in a call of a model, before and behind it."""
        self._calls[model] += 1
        self._expected[model] = self._expected.get(model, 0.0) + expected
        self._found[model] = self._found.get(model, 0.0) + found

    def ratio(self, model: str) -> float:
        """Found over expected, once a few have ended."""
        expected = self._expected.get(model, 0.0)
        return self._found[model] / expected if self._calls[model] >= FEW and expected else 1.0
