"""Exact liveness of prompt prefixes: what of a finished call's KV somebody will still ask for.

The plan knows for every call which prefixes its prompt runs through, and how many calls run through
each. When a call ends they are counted down; what lies behind the deepest prefix that others still
need is let go, so that memory goes to what will be read again rather than to what was read last.
Soft: it only says what to evict first. Of an agent the first prompt is counted, until its last
turn: what is behind that is its own (`conversation.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dag.logical import Plan
from ..dag.nodes import LLMCall
from ..dag.prefixes import Group
from ..dag.template import Slot, Template

Levels = dict[str, Group]
"""Node id -> the prefixes that its prompts run through, by row."""


class Liveness:
    """The prefixes of a plan's calls, and how many calls will still begin with each."""

    def __init__(self, plan: Plan) -> None:
        self.left: Counter[int] = Counter()
        self._levels: list[Levels] = [{} for _ in plan.parts]
        counted: set[int] = set()
        for group in plan.prefixes.groups if plan.prefixes is not None else ():
            part = plan.parts[group.part]
            node = part.workflow.nodes.get(group.node)
            if not isinstance(node, LLMCall) or part.numbered is None:
                continue
            calls = part.numbered.columns[group.node]
            if any(len(column) != part.rows for column in group.columns):
                continue  # the body of a map: its calls are not the row's own
            self._levels[group.part][group.node] = group
            firsts: Sequence[int] = range(part.rows)
            if part.classes is not None:  # equal calls are made once
                new = dict(zip(reversed(calls), reversed(firsts), strict=True))
                firsts = [row for call, row in new.items() if call not in counted]
                counted.update(new)
            for column in group.columns:
                self.left.update(map(column.__getitem__, firsts))

    def lease(
        self, part: int, place: int, node: LLMCall, values: Mapping[str, Any]
    ) -> Lease | None:
        """What a call about to be made has to give back; None when the plan knows nothing of it."""
        group = self._levels[part].get(node.id)
        if group is None or not isinstance(node.prompt, Template):
            return None
        slots, total = slot_ends(node.prompt, values)
        ends = [slots[0], *_ends(group, place, slots)]
        prefixes = [column[place] for column in group.columns]
        return Lease(self.left, prefixes, [end / total for end in ends])


def _ends(group: Group, place: int, slots: Sequence[int]) -> Iterator[int]:
    """Characters up to where each of a call's prefixes goes. `slots`: up to where each slot begins,
    and in all."""
    slot = 0
    for cut in group.cuts:
        if cut is None:
            slot += 1
            yield slots[slot]
        else:
            yield min(slots[slot] + cut[place], slots[slot + 1])  # a type may have made it shorter


class Lease:
    """One call's use of the prefixes it runs through. Called once, when the call has ended."""

    __slots__ = ("_ends", "_left", "_prefixes")

    def __init__(self, left: Counter[int], prefixes: list[int], ends: list[float]) -> None:
        self._left, self._prefixes, self._ends = left, prefixes, ends

    def __call__(self) -> float:
        """The share of the prompt that others will still begin with."""
        left = self._left
        for prefix in self._prefixes:
            left[prefix] = max(0, left[prefix] - 1)
        wanted = self._ends[0]  # what comes before the first slot is in every row's prompt
        for prefix, end in zip(self._prefixes, self._ends[1:], strict=True):
            if not left[prefix]:
                break
            wanted = end
        return wanted


def slot_ends(template: Template, values: Mapping[str, Any]) -> tuple[list[int], int]:
    """Characters up to where the first slot begins, up to where each slot and the static text
    behind it ends, and in all."""
    ends, position = [], 0
    for message in template.messages:
        for part in message.parts:
            if isinstance(part, Slot):
                ends.append(position)
                position += len(part.render(values))
            else:
                position += len(part)
    return [*ends, position], max(position, 1)
