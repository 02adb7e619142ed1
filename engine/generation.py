"""What a generation gives back, whichever backend made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]
"""`stop`: an end token, a stop string or a finished grammar; `length`: max_tokens or context."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation; of several for one prompt, the first counts the prompt."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens whose KV was found instead of computed."""
    completion_tokens: int = 0
    """Tokens generated, an end token included."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token's log-probability, with the likeliest tokens in its place."""

    token_id: int
    logprob: float
    """Natural logarithm in the model's own distribution: before temperature, top_k and so on."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest (token id, log-probability) pairs, best first."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation."""

    token_ids: tuple[int, ...]
    """Every token generated, an end token included."""
    text: str
    """The text, without special tokens and without the stop string that ended it."""
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    usage: Usage = Usage()
