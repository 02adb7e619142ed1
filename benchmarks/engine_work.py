"""Workloads of the engine benchmark: what is asked, made from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

VOCAB = 8192
CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt and how many tokens to generate."""

    prompt: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Asks in rounds: a round begins when the one before is over."""

    name: str
    says: str
    asks: tuple[Ask, ...]
    turns: int = 1
    """Rounds in which each ask goes on from its own answer with new tokens."""
    new_tokens: int = 0
    distinct_prefill: int = 0
    """Tokens that have to be computed if nothing is computed twice."""
    kv_share: float | None = None
    """KV memory as a share of the working set; None is all the room."""
    seed: int = 0

    def next_prompt(self, ask: int, turn: int, history: list[int]) -> list[int]:
        """The prompt of a later turn: everything so far and new tokens."""
        rng = random.Random(f"{self.name}/{self.seed}/{ask}/{turn}")
        return history + words(rng, self.new_tokens)


def words(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(10, VOCAB) for _ in range(count)]


def shared(seed: int) -> Workload:
    rng = random.Random(f"shared/{seed}")
    head = words(rng, 384)
    asks = [Ask(tuple(head + words(rng, 64)), 32) for _ in range(32)]
    says = "32 prompts = 384 shared + 64 own tokens, 32 out"
    return Workload("shared", says, tuple(asks), distinct_prefill=384 + 32 * 64)


def ragged(seed: int) -> Workload:
    rng = random.Random(f"ragged/{seed}")

    def between(low: int, high: int) -> int:
        return round(math.exp(rng.uniform(math.log(low), math.log(high))))

    asks = [Ask(tuple(words(rng, between(16, 512))), between(8, 128)) for _ in range(64)]
    says = "64 prompts of 16 to 512 tokens, 8 to 128 out, nothing shared"
    total = sum(len(a.prompt) for a in asks)
    return Workload("ragged", says, tuple(asks), distinct_prefill=total)


def tree(seed: int) -> Workload:
    rng = random.Random(f"tree/{seed}")
    asks: list[Ask] = []
    for _ in range(4):
        system = words(rng, 512)
        for _ in range(8):
            document = words(rng, 256)
            asks += [Ask(tuple(system + document + words(rng, 32)), 32) for _ in range(4)]
    rng.shuffle(asks)
    says = "4 system prompts (512) x 8 documents (256) x 4 questions (32), 32 out"
    distinct = 4 * 512 + 4 * 8 * 256 + 128 * 32
    return Workload("tree", says, tuple(asks), distinct_prefill=distinct)


def turns(seed: int) -> Workload:
    rng = random.Random(f"turns/{seed}")
    asks = tuple(Ask(tuple(words(rng, 64)), 32) for _ in range(8))
    says = "8 conversations x 6 turns, each prompt = history + 64 new, 32 out"
    # The last token of an answer is chosen, not computed: the next turn computes it.
    distinct = 8 * (6 * 64 + 5)
    return Workload("turns", says, asks, 6, 64, distinct)


def tight(seed: int) -> Workload:
    whole = tree(seed)
    says = "the tree workload with KV memory for a third of its working set"
    return Workload(
        "tight", says, whole.asks, distinct_prefill=whole.distinct_prefill, kv_share=1 / 3
    )


WORKLOADS: dict[str, Callable[[int], Workload]] = {
    f.__name__: f for f in (shared, ragged, tree, turns, tight)
}


def working_set(work: Workload) -> int:
    """KV tokens of everything asked and answered, each shared token once."""
    return work.distinct_prefill + sum(a.max_tokens for a in work.asks) * work.turns
