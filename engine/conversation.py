"""An agent's conversation and its KV: kept while tools work, let go once nobody will go on with it.

Every turn's prompt begins with all of the turn before and its answer. While tools are awaited that
is kept for as long as it pays (`cache/holding.py`); when the next turn's tokens are there, or the
agent ends in whatever way, the pin is given back. Behind the last turn only what others will begin
with stays: the first prompt, as far as the plan says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cache.holding import after
from ..dag.imagined import FILLERS
from ..dag.messages import Message
from ..dag.nodes import Agent
from ..tools.calls import parse_calls
from .backends.warm import Head, Kept
from .generation import Generation
from .heads import Heads


@dataclass(slots=True)
class Talk:
    """One agent's conversation."""

    node: Agent
    heads: Heads
    messages: list[Message]
    lease: Callable[[], float] | None
    """To be called once: the share of the first prompt that others will begin with. None: that is
    not known, and nothing is let go."""
    functions: tuple[Mapping[str, Any], ...] = ()
    task: tuple[str, str] | None = None
    """The row and the path of the agent."""
    turn: int = 0
    _first: int = 0
    """Characters of the first prompt."""
    _since: float = 0.0
    """When the latest tools began."""
    _kept: Kept | None = None

    def __post_init__(self) -> None:
        self._first = _characters(self.messages)

    # -- while tools work ----------------------------------------------------------------------

    def tools_begin(self) -> None:
        self._since = time.perf_counter()

    async def keep(self, shown: Sequence[Message], awaited: Sequence[str]) -> None:
        """Keep the conversation, and have begun what the next prompt will surely show: `shown`.
        `awaited` are the paths of the tools that are at work."""
        known = [*self.messages, *shown]
        one, two = ([*known, Message("tool", filler)] for filler in FILLERS)
        elapsed = time.perf_counter() - self._since
        times = tuple(after(self.heads.times(path), elapsed) for path in awaited)
        head = Head((one, two), self.node.model, self.functions, times, self.task)
        kept = await self.heads.keep(head)
        if kept is not None:
            before, self._kept = self._kept, kept  # a new pin before the old one goes
            if before is not None:
                before.release()

    def release(self) -> None:
        """The next turn has computed its tokens, or there will be none."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.release()

    # -- at the end ----------------------------------------------------------------------------

    def last(self, generations: Sequence[Generation]) -> bool:
        """Whether the conversation ends with these generations."""
        if self.turn + 1 >= self.node.max_turns:
            return True
        tools = {spec.name: spec for spec in self.node.tools}
        return not parse_calls(generations[0].text, tools).calls

    def wanted(self) -> float:
        """The share of this turn's prompt that others will begin with; to be asked at the end.

        Chat templates show the tools before the first message.
        """
        if self.lease is None:
            return 1.0
        tools, whole = sum(len(repr(f)) for f in self.functions), _characters(self.messages)
        return (tools + self._end() * self._first) / max(tools + whole, 1)

    def close(self) -> None:
        """The agent has ended, well or not."""
        self.release()
        self._end()

    def _end(self) -> float:
        """The lease, which is asked once."""
        lease, self.lease = self.lease, None
        return lease() if lease is not None else 1.0


def _characters(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)
