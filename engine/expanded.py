"""Liveness of what no plan could know: calls in bodies that come into being while a batch runs.

When a body starts (an item of a map, a round of a loop, a task that a model planned) its prompts
are known as far as their first values are. Each such prefix is counted, once for calls that will be
one; when a call ends, or its body without it, the prefix is counted down. So the engine hears of
expanded calls what it hears of planned ones: which part of a prompt others will still begin with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from ..dag.arg import Arg, refs, resolve
from ..dag.errors import PlaitError
from ..dag.nodes import Agent, LLMCall
from ..dag.repeatable import deterministic
from ..dag.template import Slot, Template
from .liveness import slot_ends
from .row import RowState
from .wiring import NOT_DEMANDED, Wiring

Prefix = bytes
"""A digest of a model and of the text that prompts to it begin with."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call to come, or several that will be one."""

    prefixes: tuple[Prefix, ...]
    bodies: int = 0
    """That will ask for it and have not ended."""
    counted: bool = False


class Expanded:
    """The prefixes of expanded calls, and how many calls to come begin with each."""

    def __init__(self) -> None:
        self.left: Counter[Prefix] = Counter()
        self.to_come: dict[int, int] = {}
        """Rows that may still expand a body, by the id of its wiring."""
        self._calls: dict[Hashable, _Call] = {}

    def expect(self, bodies: Iterable[Wiring], rows: int) -> None:
        """So many rows will expand these bodies, once each at most."""
        self.to_come |= {id(body): rows for body in bodies}

    def passed(self, bodies: Iterable[Wiring], row: RowState) -> None:
        """The row expands these bodies now, or never will."""
        for body in bodies:
            if id(body) in self.to_come and id(body) not in row.expanded:
                row.expanded.add(id(body))
                self.to_come[id(body)] -= 1

    def open_ended(self, wiring: Wiring) -> bool:
        """Whether the body may be expanded again, with who knows what values."""
        return self.to_come.get(id(wiring), 1) > 0

    def body(self, wiring: Wiring, inputs: Mapping[str, Any], row: RowState) -> Body:
        """A body that starts with these values; to be closed when it has ended."""
        self.passed((wiring,), row)
        values = {**wiring.constants, **inputs}
        body = Body(self, wiring)
        for i, node in enumerate(wiring.nodes):
            if isinstance(node, LLMCall):
                prompt, demanded = node.prompt, wiring.waiting[i] != NOT_DEMANDED
                if isinstance(prompt, Template) and demanded:
                    body.calls[node.id] = self._expect(node, prompt, values)
        return body

    def _expect(self, node: LLMCall, prompt: Template, values: Mapping[str, Any]) -> Hashable:
        """Count a call to come; its key."""
        prefixes = tuple(_prefixes(node, prompt, values))
        whole = len(prefixes) == sum(1 for _ in prompt.slots())
        key: Hashable = object()
        if whole and deterministic(node.sampling) and not isinstance(node, Agent):
            key = (repr(node.sampling), prefixes, str(prompt))
        call = self._calls.setdefault(key, _Call(prefixes))
        call.bodies += 1
        if not call.counted:
            call.counted = True
            self.left.update(prefixes)
        return key

    def ended(self, key: Hashable) -> tuple[Prefix, ...]:
        """A call has been made: its prefixes, with one asker less."""
        call = self._calls.get(key)
        if call is None:
            return ()  # who asked for it is gone
        if call.counted:
            call.counted = False
            for prefix in call.prefixes:
                self.left[prefix] -= 1
                if not self.left[prefix]:
                    del self.left[prefix]
        return call.prefixes

    def left_alone(self, key: Hashable) -> None:
        """A body that would have asked for the call has ended."""
        call = self._calls[key]
        call.bodies -= 1
        if not call.bodies:
            self.ended(key)
            del self._calls[key]


@dataclass(slots=True, eq=False)
class Body:
    """The calls of one body that started."""

    expanded: Expanded
    wiring: Wiring
    calls: dict[str, Hashable] = field(default_factory=dict)

    def lease(self, node: LLMCall, values: Mapping[str, Any]) -> Lease | None:
        """What a call about to be made has to give back."""
        key = self.calls.get(node.id)
        if key is None or not isinstance(node.prompt, Template):
            return None
        ends, total = slot_ends(node.prompt, values)
        return Lease(self.expanded, self.wiring, key, [end / total for end in ends])

    def close(self) -> None:
        """It has ended, with or without its calls."""
        for key in self.calls.values():
            self.expanded.left_alone(key)
        self.calls.clear()


@dataclass(frozen=True, slots=True)
class Lease:
    """One call's use of its prefixes. Called once, when the call has ended."""

    expanded: Expanded
    wiring: Wiring
    key: Hashable
    ends: list[float]

    def __call__(self) -> float:
        """The share of the prompt that others will still begin with.

        While rows may still expand the body, any of what it was given may come again: then only
        what came into being inside it is let go.
        """
        left, again = self.expanded.left, self.expanded.open_ended(self.wiring)
        wanted = self.ends[0]  # what comes before the first slot is in every prompt of the node
        for prefix, end in zip(self.expanded.ended(self.key), self.ends[1:], strict=False):
            if not again and not left[prefix]:
                break
            wanted = end
        return wanted


def _prefixes(node: LLMCall, prompt: Template, values: Mapping[str, Any]) -> Iterator[Prefix]:
    """One for each slot up to the first whose value is not there."""
    bound = dict(node.bound)
    digest = blake2b(node.model.encode(), digest_size=12)
    for message in prompt.messages:
        digest.update(b"\0" + message.role.encode() + b"\0")
        for part in message.parts:
            if not isinstance(part, Slot):
                digest.update(part.encode("utf-8", "surrogatepass"))
                continue
            text = _text(part, bound.get(part.name), values)
            if text is None:
                return
            digest.update(text.encode("utf-8", "surrogatepass"))
            yield digest.digest()


def _text(slot: Slot, arg: Arg | None, values: Mapping[str, Any]) -> str | None:
    """What stands in a slot; None when that is not known yet, or goes wrong."""
    if arg is None or any(id not in values for id in refs(arg)):
        return None
    try:
        value = resolve(arg, values)
    except PlaitError:
        return None  # the call itself will say so
    return slot.shown({slot.name: value})
