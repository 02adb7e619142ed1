"""What a cached leaf is worth keeping: eviction takes the least valuable first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import Node

Value = tuple[float, ...]
"""Compared from left to right; the smallest goes first."""

ValueFunction = Callable[["Node", float], Value]
"""(leaf, now) -> its value. A value may fall only when the leaf is touched or its pin runs out:
the tree looks again at a leaf at those moments, and otherwise trusts that values only rise."""


def least_recently_used(node: Node, now: float) -> Value:
    """Unpinned before pinned, what nobody will ask for before the rest, then by last use."""
    return (float(node.pinned_until(now) > now), float(not node.unwanted), node.last_used)
