"""Pins: leases on cached KV, each with a deadline. Soft, so that idle ones cannot wedge an engine.

A pin makes eviction prefer others. It ends when its deadline passes, when its owner drops it, or
when memory pressure breaks it, and the table counts which.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import Node


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin as `explain` shows it."""

    number: int
    tokens: int
    """Tokens from the root to the end of what it keeps."""
    until: float

    def told(self, now: float) -> str:
        left = self.until - now
        return f"pin {self.number} keeps {self.tokens} tokens for {left:.1f} s more"


class Pins:
    """Every pin of one tree, by its number and by its node."""

    def __init__(self) -> None:
        self.made = 0
        self.expired = 0
        """Pins whose deadline passed."""
        self.broken = 0
        """Pins that memory pressure ended."""
        self._numbers = count()
        self._nodes: dict[int, Node] = {}
        self._expiries: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: Node, until: float) -> int:
        if len(self._expiries) > 64 + 4 * len(self._nodes):
            self._expiries = [(n.pins[number], number) for number, n in self._nodes.items()]
            heapq.heapify(self._expiries)
        number = next(self._numbers)
        node.pins[number] = until
        self._nodes[number] = node
        heapq.heappush(self._expiries, (until, number))
        self.made += 1
        return number

    def drop(self, number: int) -> Node | None:
        """End a pin; the node it was on, None when it had ended before."""
        node = self._nodes.pop(number, None)
        if node is not None:
            del node.pins[number]
        return node

    def take_expired(self, now: float) -> list[Node]:
        """End the pins whose deadline has passed; the nodes they were on."""
        nodes: list[Node] = []
        while self._expiries and self._expiries[0][0] <= now:
            _, number = heapq.heappop(self._expiries)
            node = self.drop(number)
            if node is not None:
                self.expired += 1
                nodes.append(node)
        return nodes

    def shorten(self, node: Node, above: Node | None) -> None:
        """A node has to go: its pins keep what is above it, if anything is."""
        for number, until in list(node.pins.items()):
            if above is None or above.parent is None:
                self.drop(number)
                self.broken += 1
            else:
                del node.pins[number]
                above.pins[number] = until
                self._nodes[number] = above

    def live(self) -> list[Pin]:
        """Pins that have not ended, the next to end first."""
        pins = [
            Pin(number, sum(len(n.tokens) for n in node.path()), node.pins[number])
            for number, node in self._nodes.items()
        ]
        return sorted(pins, key=lambda pin: (pin.until, pin.number))
