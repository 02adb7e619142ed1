"""Nodes of the prefix tree, and what the tree says about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .pages import runs_of

if TYPE_CHECKING:
    from .value import Value

_FOREVER = float("inf")


@dataclass(slots=True, eq=False)
class Node:
    """An edge of the tree and the point where it ends."""

    id: int
    parent: Node | None
    tokens: tuple[int, ...]
    pages: list[int]
    last_used: float = 0.0
    holds: int = 0
    """Requests that use this node or one below it."""
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)
    """By the tokens of the child's first page (fewer when the child ends inside it)."""
    pins: dict[int, float] = field(default_factory=dict)
    """Pin number -> deadline."""
    unwanted: bool = False
    """Somebody who knows said that nobody will ask for it; so until somebody does."""
    to_host: bool | None = None
    """What is to become of it when it has to go, decided when the request that will come back for
    it gave way; None: the host tier decides. Until somebody uses it again."""
    on_host: bool = False
    """Its pages are of the host tier; so are those of all nodes below it."""
    on_device: int = 0
    """How many of its children have their pages on the device."""
    _runs: list[tuple[int, int]] | None = None

    def runs(self) -> list[tuple[int, int]]:
        """Its pages as (first page, count) runs of neighbours."""
        if self._runs is None:
            self._runs = runs_of(self.pages)
        return self._runs

    @property
    def evictable(self) -> bool:
        """Nobody uses it, nothing below it is on the device, and it has something to give."""
        return not (self.holds or self.on_device or self.on_host) and bool(self.pages)

    def pinned_until(self, now: float) -> float:
        """The latest deadline of its pins, `-inf` without one."""
        return max(self.pins.values(), default=-_FOREVER)

    def move(self, pages: list[int], on_host: bool) -> None:
        """Its KV lies in other pages now."""
        self.pages, self.on_host, self._runs = pages, on_host, None
        if self.parent is not None:
            self.parent.on_device += -1 if on_host else 1

    def cut(self, keep: int, page_size: int) -> list[int]:
        """Keep the first `keep` pages; the others."""
        others = self.pages[keep:]
        self.pages, self._runs = self.pages[:keep], None
        self.tokens = self.tokens[: keep * page_size]
        return others

    def path(self) -> list[Node]:
        """Nodes from below the root down to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes


@dataclass(frozen=True, slots=True)
class Match:
    """The longest cached prefix of some tokens."""

    node: Node
    """Deepest node on the way; whole, or used up to `inside` tokens."""
    inside: int
    """Tokens of `node` that matched, a multiple of the page size unless it is whole."""
    length: int
    """Tokens matched in whole pages, from the root on."""
    copy_page: int | None
    """Page whose first `copy_length` slots continue the match, to be copied."""
    copy_length: int

    @property
    def total(self) -> int:
        return self.length + self.copy_length


@dataclass(frozen=True, slots=True)
class Eviction:
    """One leaf, or the end of one, that was dropped, and why it was the one."""

    tokens: int
    pages: int
    value: Value
    idle: float
    pinned: bool
    offloaded: bool = False
    """It went to the host tier instead of being lost."""

    def __str__(self) -> str:
        what = "moved to the host tier" if self.offloaded else "dropped"
        pin = ", although pinned" if self.pinned else ""
        return (
            f"{self.tokens} tokens in {self.pages} pages {what} after {self.idle:.1f} s unused{pin}"
        )
