"""Following tokens down the tree. Nothing here changes it."""

from __future__ import annotations

from collections.abc import Sequence

from .node import Match, Node

NEAR_LIMIT = 64
"""Siblings looked at for a match that ends inside a page."""


def longest(root: Node, tokens: Sequence[int], size: int) -> Match:
    """The longest cached prefix, in pages of `size` tokens."""
    node, done = root, 0
    while True:
        child = node.children.get(tuple(tokens[done : done + size]))
        if child is None or child.on_host or len(child.tokens) < size:
            page, extra = near(node, tokens[done : done + size])
            return Match(node, len(node.tokens), done, page, extra)
        same = common(child.tokens, tokens, done)
        whole = same - same % size
        done += whole
        if whole < len(child.tokens):
            page = child.pages[whole // size] if same > whole else None
            return Match(child, whole, done, page, same - whole)
        node = child


def near(node: Node, tokens: Sequence[int]) -> tuple[int | None, int]:
    """The child's first page that shares the most of `tokens`, less than a page."""
    best, page = 0, None
    if not tokens:
        return page, best
    for seen, child in enumerate(reversed(node.children.values())):
        if seen == NEAR_LIMIT:
            break
        if child.tokens[0] == tokens[0] and not child.on_host:
            same = common(child.tokens[: len(tokens)], tokens, 0)
            if same > best:
                best, page = same, child.pages[0]
    return page, best


def own_path(root: Node, tokens: Sequence[int], size: int) -> list[Node]:
    """The nodes that hold these tokens and no others; the last one may end inside a page."""
    found = longest(root, tokens, size)
    if found.inside < len(found.node.tokens):
        return []
    path = found.node.path()
    rest = tuple(tokens[found.length : found.length + size])
    for length in range(len(rest), 0, -1):
        child = found.node.children.get(rest[:length])
        if child is not None and child.tokens == rest[:length]:
            return [*path, child]
    return path


def host_step(node: Node, tokens: Sequence[int], done: int, size: int) -> tuple[Node, int] | None:
    """The host child that goes on with the tokens, and how many of them in whole pages."""
    child = node.children.get(tuple(tokens[done : done + size]))
    if child is None or not child.on_host:
        return None
    same = common(child.tokens, tokens, done)
    whole = same - same % size
    return (child, whole) if whole else None


def common(edge: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many tokens of `edge` equal `tokens` from `start` on."""
    limit = min(len(edge), len(tokens) - start)
    if tuple(edge[:limit]) == tuple(tokens[start : start + limit]):
        return limit
    low, high = 0, limit
    while low < high:  # the longest equal head, by halving: slices compare at C speed
        middle = (low + high + 1) // 2
        if tuple(edge[low:middle]) == tuple(tokens[start + low : start + middle]):
            low = middle
        else:
            high = middle - 1
    return low
