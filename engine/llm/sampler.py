"""Choosing tokens from logits.

Each draw is a function of the request's seed and the token's position alone: one uniform number,
mapped through the cumulative distribution. So a request's tokens do not depend on its neighbours,
on preemption or on a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...dag.sampling import Sampling
from ..generation import TokenLogprob

_MASK = (1 << 64) - 1
COLDEST = 1e-30
"""The least temperature that a float32 can be divided by."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose the token of one row."""

    sampling: Sampling
    seed: int
    position: int
    allowed: torch.Tensor | None = None
    """Boolean over the vocabulary, from a grammar; None allows all."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tokens of all rows; None where the logits were not numbers."""

    tokens: Sequence[int | None]
    logprobs: Sequence[TokenLogprob | None]


def choose(logits: torch.Tensor, draws: Sequence[Draw]) -> Chosen:
    """One token per row of (rows, V). Those that are the likeliest, of all tokens or of the allowed
    ones, are found together: one by one they would take longer than the step."""
    plain = [place for place, draw in enumerate(draws) if _plain(draw)]
    tokens: list[int | None] = [None] * len(draws)
    logprobs: list[TokenLogprob | None] = [None] * len(draws)
    if plain:
        rows = logits if len(plain) == len(draws) else logits[plain]
        for place, token in zip(plain, _allowed(rows, [draws[i] for i in plain]), strict=True):
            tokens[place] = token
    if len(plain) < len(draws):
        for place, draw in enumerate(draws):
            if not _plain(draw):
                tokens[place], logprobs[place] = _choose_row(logits[place], draw)
    return Chosen(tokens, logprobs)


def _allowed(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int | None]:
    """The likeliest token of every row among those that its draw allows."""
    tokens = likeliest(logits)
    masks = {
        place: draw.allowed for place, draw in enumerate(draws)
        if draw.allowed is not None and tokens[place] is not None
    }  # fmt: skip
    if masks:
        allowed = torch.stack(list(masks.values()))
        scores = logits[list(masks)].masked_fill_(~allowed, float("-inf"))
        for place, token in zip(masks, likeliest(scores), strict=True):
            tokens[place] = token
    return tokens


def likeliest(logits: torch.Tensor) -> list[int | None]:
    """The index of each row's largest number; None for a row that holds NaN or infinity."""
    if logits.device.type == "cpu":  # numpy's search is an order of magnitude faster here
        table = logits.float().numpy()
        best = table.argmax(axis=1)
        tokens: list[int] = best.tolist()
        values = table[np.arange(len(tokens)), best]
        sound: list[bool] = np.isfinite(values).tolist()
    else:
        found = logits.max(dim=-1)
        tokens = found.indices.tolist()
        sound = torch.isfinite(found.values).tolist()
    return [token if ok else None for token, ok in zip(tokens, sound, strict=True)]


def _plain(draw: Draw) -> bool:
    return draw.sampling.greedy and draw.sampling.logprobs is None


def _choose_row(row: torch.Tensor, draw: Draw) -> tuple[int | None, TokenLogprob | None]:
    row = row.float()
    if not torch.isfinite(row.max()):
        return None, None
    scores = row
    if draw.allowed is not None:
        scores = row.masked_fill(~draw.allowed, float("-inf"))
        if not torch.isfinite(scores.max()):  # the model itself rules out all that are allowed
            return None, None
    token = int(scores.argmax()) if draw.sampling.greedy else _sample(scores, draw)
    return token, _logprob(row, token, draw.sampling.logprobs)


def _sample(scores: torch.Tensor, draw: Draw) -> int:
    """Temperature, then top_k, top_p and min_p, each on what the one before left."""
    sampling = draw.sampling
    # The likeliest is 0, so that a temperature near 0 ends at the greedy choice, not at infinity.
    scores = (scores - scores.max()) / max(sampling.temperature, COLDEST)
    order: torch.Tensor | None = None
    if sampling.top_k or sampling.top_p < 1.0:
        scores, order = scores.sort(descending=True, stable=True)
    if sampling.top_k:
        scores[sampling.top_k :] = float("-inf")
    if sampling.top_p < 1.0:
        before = torch.softmax(scores.double(), dim=-1)
        before = before.cumsum(dim=-1) - before
        scores = scores.masked_fill(before >= sampling.top_p, float("-inf"))
    if sampling.min_p > 0.0:
        limit = scores.max() + torch.log(torch.tensor(sampling.min_p, device=scores.device))
        scores = scores.masked_fill(scores < limit, float("-inf"))
    sums = torch.softmax(scores.double(), dim=-1).cumsum(dim=-1)
    point = uniform(draw.seed, draw.position) * float(sums[-1])
    at = int(torch.searchsorted(sums, point, right=True))
    at = min(at, int(torch.isfinite(scores).nonzero()[-1]))
    return int(order[at]) if order is not None else at


def _logprob(row: torch.Tensor, token: int, top: int | None) -> TokenLogprob | None:
    if top is None:
        return None
    logs = torch.log_softmax(row, dim=-1)
    best = logs.topk(min(top, len(logs))) if top else None
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True) if best else ()
    return TokenLogprob(token, float(logs[token]), tuple(pairs))


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that only the seed and the position determine."""
    return (mix(seed ^ mix(position + 1)) >> 11) * 2.0**-53


def mix(number: int) -> int:
    """A 64-bit hash (the finalizer of splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def seed_of(seed: int, index: int) -> int:
    """The seed of the generation `index` of a call."""
    seed = int(seed) & _MASK  # numpy's own integers would overflow
    return seed if index == 0 else mix(seed ^ mix(index))
