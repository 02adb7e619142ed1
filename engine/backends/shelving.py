"""The shelf of a local backend, and how its memory is divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..llm import LLM
    from ..llm.shelf import Shelf


def build_shelf(
    paths: Mapping[str, Path], memory: int | str | None, options: Mapping[str, Any]
) -> Shelf[LLM]:
    """Engines for these paths by alias; under a limit, with KV memory that fits beside weights."""
    # Here, not above: these import torch, which must wait until a model is really wanted.
    from ..llm import LLM
    from ..llm.memory import parse_bytes
    from ..llm.model import estimate_bytes
    from ..llm.shelf import Shelf

    if memory is None:
        return Shelf(paths, lambda path: LLM(path, **options))
    limit, kind, device = parse_bytes(memory), options.get("dtype"), options.get("device")
    weights = {p: estimate_bytes(p, kind or "auto", device or "auto") for p in set(paths.values())}
    asked = options.get("kv_memory")
    kv = parse_bytes(asked) if asked is not None else kv_share(limit, list(weights.values()))
    settings = {**options, "kv_memory": max(kv, 1)}
    return Shelf(paths, lambda path: LLM(path, **settings), limit, lambda path: weights[path] + kv)


def kv_share(limit: int, weights: Sequence[int]) -> int:
    """KV memory for each of several models under one limit, when none was asked for.

    If all weights fit together, what they leave is shared; else the largest model alone must fit.
    A margin of 2 % is left for weights that are larger in memory than in their files.
    """
    room = limit * 98 // 100
    if sum(weights) < room:
        return (room - sum(weights)) // len(weights)
    return max(0, room - max(weights))
