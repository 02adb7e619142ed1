"""Whether KV that has to go is worth moving to the host tier."""

from __future__ import annotations

from collections.abc import Callable

from ...cache.host import Worth
from ...cache.node import Node
from .costs import Costs


def worth_of(costs: Callable[[], Costs]) -> Worth:
    """By what moving it and computing it again cost at the time."""

    def worth(node: Node, now: float) -> bool:
        context = sum(len(n.tokens) for n in node.path()) - len(node.tokens)
        return costs().offload_pays(len(node.tokens), context)

    return worth
