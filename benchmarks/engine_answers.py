"""Answers of the engine benchmark, token by token beside those of padded `generate`."""

from __future__ import annotations

from typing import Any

from .engine_floors import PADDED

FP32 = " fp32"
"""Ends the names of contenders that run in fp32 whatever the others run in."""


def compare(races: dict[str, dict[str, Any]]) -> None:
    """Count the answers of each contender that equal those of padded `generate` in the same type,
    and drop the tokens."""
    for contenders in races.values():
        for name, entry in contenders.items():
            other = _reference(name, contenders, races.get("tree", {}))
            if "answers" in entry and other is not None and "answers" in other:
                entry.update(_counted(entry["answers"], other["answers"]))
    for contenders in races.values():
        for entry in contenders.values():
            entry.pop("answers", None)


def _reference(
    name: str, contenders: dict[str, Any], tree: dict[str, Any]
) -> dict[str, Any] | None:
    """Padded `generate` on the same workload; where nobody ran it, on the tree."""
    full = name.endswith(FP32)
    for other, entry in contenders.items():
        if other.startswith(PADDED) and other.endswith(FP32) is full:
            found: dict[str, Any] = entry
            return found
    return None if full else tree.get(PADDED)


def _counted(mine: list[Any], theirs: list[Any]) -> dict[str, Any]:
    """rows, rows_equal; where they differ, the first token that does, counted from one, and the
    share of tokens before each row's first."""
    pairs = [
        pair
        for one, other in zip(mine, theirs, strict=False)
        for pair in zip(one, other, strict=True)
    ]
    equal = sum(a == b for a, b in pairs)
    found: dict[str, Any] = {"rows": len(pairs), "rows_equal": equal}
    if equal < len(pairs):
        agree = [_agree(a, b) for a, b in pairs]
        found["first_difference"] = 1 + min(
            n for n, (a, b) in zip(agree, pairs, strict=True) if a != b
        )
        found["tokens_before"] = sum(agree) / max(1, sum(len(b) for _, b in pairs))
    return found


def _agree(one: list[int], other: list[int]) -> int:
    """Tokens in common at the beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
