"""Prompts of a rehearsal that are begun while last values are awaited; see `split_prefill`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from .nodes import LLMCall, Node, ToolCall
from .serving import Times
from .template import Template

if TYPE_CHECKING:
    from .rehearsal import Rehearsal
    from .rehearsed_row import Act

Release = Callable[[], None]
"""Nobody waits for a beginning any more."""
AT_ONCE = 0.002
"""Seconds after which a beginning is asked for: calls that can begin now are to be there first.
Tools that are as quick are not worth it."""
KNOWN = 8
"""Calls of a tool after which a run knows how long it takes."""


class Heads:
    """The beginnings that one batch asks for, each once."""

    def __init__(self, world: Rehearsal) -> None:
        self._world = world
        self._asked: set[Hashable] = set()

    def begin(self, node: LLMCall, act: Act) -> None:
        """Soon have the beginning of a call's prompt computed, if it is still of use then."""
        self._world.at(AT_ONCE, lambda: self._warm(node, act))

    def _warm(self, node: LLMCall, act: Act) -> None:
        awaited = [self._times(other, act) for other in act.awaited(node)]
        if all(map(at_once, awaited)):
            return
        assert isinstance(node.prompt, Template) and node.early is not None
        values = act.there(node.bound)
        first = self._world.nodes.known(node).early
        key = (node.model, node.prompt, tuple(values[n].number for n in values if n in first))
        if key in self._asked:
            return
        self._asked.add(key)
        tokens = self._world.imagination.head(node.prompt, node.early, values)
        release = self._world.fleet.warm(node.model, tokens, awaited) if tokens else None
        if release is not None:
            act.keeps(node.id, release)

    def _times(self, node: Node, act: Act) -> Times:
        """How long a value takes, as far as a run would have shown by now."""
        if not isinstance(node, ToolCall):
            return ()
        returned = self._world.fleet.returned["/".join((*act.way, node.id))]
        return self._world.nodes.operator(node).times() if returned >= KNOWN else ()


def at_once(times: Times) -> bool:
    """Whether most values come so soon that there is nothing to gain."""
    return any(seconds < AT_ONCE and share > 0.5 for seconds, share in times)
