"""Prompts whose beginnings are computed while their last values are awaited.

The plan marks them (`split_prefill`). As soon as the values at the beginning are there, the backend
is told two prompts that differ in nothing but the late values: what their tokens have in common is
what the real prompt will begin with, whatever the tokenizer and the chat template do. If that turns
out wrong the real prompt is computed as if nothing had been: a head is a hint.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..cache.holding import Times
from ..dag.arg import refs, resolve
from ..dag.errors import PlaitError
from ..dag.imagined import FILLERS
from ..dag.nodes import Agent, LLMCall
from ..dag.rehearsed_heads import AT_ONCE, KNOWN, at_once
from ..dag.template import Template
from .backends.backend import Backend
from .backends.warm import Head, Kept, Warms
from .run import Stats, unnumbered

if TYPE_CHECKING:
    from .program import Program

REMEMBERED = 4_096
"""Heads of a run remembered, so that rows with the same beginning ask once."""


class Heads:
    """The heads of one run."""

    def __init__(self, backend: Backend, stats: Stats, wanted: bool, salt: str = "") -> None:
        self._backend = backend if wanted and isinstance(backend, Warms) else None
        self._stats, self._salt = stats, salt
        self._asked: OrderedDict[Hashable, None] = OrderedDict()

    @property
    def possible(self) -> bool:
        """Whether the backend can compute what is not a whole prompt, and is wanted to."""
        return self._backend is not None

    async def warm(self, program: Program, i: int) -> None:
        """Have the head of a node's prompt computed, and leave it with the program.

        Not at once: calls that can begin now are to be there first, or a head would come before
        them, into memory that they need.
        """
        await asyncio.sleep(AT_ONCE)
        node = program.wiring.nodes[i]
        assert isinstance(node, LLMCall)
        awaited = [id for _, arg in node.bound for id in refs(arg) if id not in program.values]
        times = tuple(self.times(program.path + id) for id in awaited)
        if all(map(at_once, times)):
            return
        with suppress(PlaitError):  # the call itself will say what is wrong
            head = head_of(node, program, times)
            if self._asked_before(head):
                return
            kept = await self.keep(head)
            if kept is not None:
                program.keep_head(i, kept)

    async def keep(self, head: Head) -> Kept | None:
        """Have a head kept, and what is missing of it computed. To be released."""
        if self._backend is not None:
            with suppress(PlaitError):  # a prompt that cannot be encoded: the call will say so
                return await self._backend.warm(replace(head, salt=self._salt))
        return None

    def times(self, path: str) -> Times:
        """How long a tool takes, as far as this run has shown."""
        counted = self._stats.nodes.get(unnumbered(path))
        if counted is None or counted.seen.seconds.count < KNOWN:
            return ()
        return counted.seen.seconds.shares()

    def _asked_before(self, head: Head) -> bool:
        """Whether another row has begun the same."""
        key = (head.model, str(head.prompts[0]))
        if key in self._asked:
            return True
        self._asked[key] = None
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        return False


def head_of(node: LLMCall, program: Program, awaited: tuple[Times, ...] = ()) -> Head:
    """The beginning of a node's prompt, as far as its values are there."""
    assert isinstance(node.prompt, Template) and node.early is not None
    there = {
        name: resolve(arg, program.values) for name, arg in node.bound
        if all(id in program.values for id in refs(arg))
    }  # fmt: skip
    one, two = (node.prompt.until(node.early, filler).render(there) for filler in FILLERS)
    tools = tuple(t.as_function() for t in node.tools) if isinstance(node, Agent) else ()
    task = str(program.row.id), program.path + node.id
    return Head((one, two), node.model, tools, awaited, task)
