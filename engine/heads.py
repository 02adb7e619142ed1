"""Prompts whose beginnings are computed while their last values are awaited.

The plan marks them (`split_prefill`). As soon as the values at the beginning are there, the backend
is told two prompts that differ in nothing but the late values: what their tokens have in common is
what the real prompt will begin with, whatever the tokenizer and the chat template do. If that turns
out wrong the real prompt is computed as if nothing had been: a head is a hint.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..dag.arg import refs, resolve
from ..dag.errors import PlaitError
from ..dag.nodes import Agent, LLMCall
from ..dag.template import Template
from .backends.backend import Backend
from .backends.warm import Head, Kept, Warms

if TYPE_CHECKING:
    from .program import Program
    from .run import Stats

FILLERS = ("x", "0")
"""Two values for what is late: they share no token."""
HOLD = 60.0
"""Seconds for which a head is kept where nothing is known of what it waits for."""
MARGIN = 5.0
"""A head is kept for so many times the mean time of what it waits for."""
AT_ONCE = 0.002
"""Seconds: values that come sooner are not worth it."""
REMEMBERED = 4_096
"""Heads of a run remembered, so that rows with the same beginning ask once."""


class Heads:
    """The heads of one run."""

    def __init__(self, backend: Backend, stats: Stats, wanted: bool) -> None:
        self._backend = backend if wanted and isinstance(backend, Warms) else None
        self._stats = stats
        self._asked: OrderedDict[Hashable, None] = OrderedDict()

    @property
    def possible(self) -> bool:
        """Whether the backend can compute what is not a whole prompt, and is wanted to."""
        return self._backend is not None

    async def warm(self, program: Program, i: int) -> None:
        """Have the head of a node's prompt computed, and leave it with the program."""
        node = program.wiring.nodes[i]
        assert isinstance(node, LLMCall)
        hold = self._hold(program, node)
        if hold is None:
            return
        with suppress(PlaitError):  # the call itself will say what is wrong
            head = head_of(node, program, hold)
            kept = await self.keep(head)
            if kept is not None:
                program.keep_head(i, kept)

    async def keep(self, head: Head) -> Kept | None:
        """Have a head computed, unless that has been asked for before. To be released."""
        key = (head.model, str(head.prompts[0]))
        if self._backend is None or key in self._asked:
            return None
        self._asked[key] = None
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        with suppress(PlaitError):  # a prompt that cannot be encoded: the call will say so
            return await self._backend.warm(head)
        return None

    def _hold(self, program: Program, node: LLMCall) -> float | None:
        """Seconds to keep it, from the times of what is awaited; None if that comes at once."""
        awaited = [id for _, arg in node.bound for id in refs(arg) if id not in program.values]
        times = []
        for id in awaited:
            seen = self._stats.nodes.get(id)
            if seen is None or not seen.calls:
                return HOLD
            times.append(seen.seconds / seen.calls)
        slowest = max(times, default=0.0)
        return None if slowest < AT_ONCE else max(1.0, MARGIN * slowest)


def head_of(node: LLMCall, program: Program, hold: float) -> Head:
    """The beginning of a node's prompt, as far as its values are there."""
    assert isinstance(node.prompt, Template) and node.early is not None
    there = {
        name: resolve(arg, program.values) for name, arg in node.bound
        if all(id in program.values for id in refs(arg))
    }  # fmt: skip
    one, two = (node.prompt.until(node.early, filler).render(there) for filler in FILLERS)
    tools = tuple(t.as_function() for t in node.tools) if isinstance(node, Agent) else ()
    return Head((one, two), node.model, tools, hold)
