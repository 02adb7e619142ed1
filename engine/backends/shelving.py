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
    from ..llm.model import choose_device, estimate_bytes
    from ..llm.shelf import Shelf

    if memory is None:
        return Shelf(paths, lambda path: LLM(path, **options))
    limit, kind, device = parse_bytes(memory), options.get("dtype"), options.get("device") or "auto"
    host = parse_bytes(options.get("host_memory") or 0)
    beside = host if choose_device(device).type == "cpu" else 0  # there it is the same memory
    fixed = {p: estimate_bytes(p, kind or "auto", device) + beside for p in set(paths.values())}
    asked = options.get("kv_memory")
    kv = parse_bytes(asked) if asked is not None else kv_share(limit, list(fixed.values()))
    settings = {**options, "kv_memory": max(kv, 1)}
    return Shelf(paths, lambda path: LLM(path, **settings), limit, lambda path: fixed[path] + kv)


def kv_share(limit: int, fixed: Sequence[int]) -> int:
    """KV memory for each of several models under one limit, when none was asked for.

    `fixed` is what each needs besides, mostly its weights. If all fit together, what they leave is
    shared; else the largest model alone must fit. A margin of 2 % is left for weights that are
    larger in memory than in their files.
    """
    room = limit * 98 // 100
    if sum(fixed) < room:
        return (room - sum(fixed)) // len(fixed)
    return max(0, room - max(fixed))
