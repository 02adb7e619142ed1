"""What a run shares between its tasks: planned classes, and what turns out equal on the way.

    planned   the plan gave several tasks one class: one runs, the others take its value. The plan
              also knows how many there are, so the value stays until the last row that could ask
              for it has ended, and is dropped then.
    found     two LLM requests or tool calls come out equal when their arguments are there. Kept
              within a bound of their own, as nobody knows who will ask.

By effect: `pure` tools are shared for the whole run; `read` tools only while they run, and only
when nothing in the run writes, so that no task sees the world older than it was when it asked;
`write` tools never. LLM calls are shared at temperature 0 or with a seed of their own.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Mapping
from hashlib import blake2b
from typing import Any

from ..dag.keys import Unkeyed, value_key
from ..dag.logical import Part
from ..dag.messages import Message
from ..dag.nodes import Agent, LLMCall, Node, ToolCall, ToolSpec, Workflow
from ..dag.numbers import Column
from ..dag.repeatable import OWN, Names, deterministic
from ..dag.sampling import Sampling
from .backends.backend import Call
from .expanded import Expanded
from .liveness import Liveness
from .row import RowState
from .single_flight import SingleFlight


class Sharing:
    """The keys of one run's tasks. Several workflows that run together share `flights`."""

    def __init__(
        self, flights: SingleFlight, reads: bool, part: Part | None = None,
        uses: Column | None = None, *, found: bool = True, liveness: Liveness | None = None,
        number: int = 0, expanded: Expanded | None = None,
    ) -> None:  # fmt: skip
        self.expanded = expanded
        """Liveness of calls that come into being at run time."""
        self._liveness, self._number = liveness, number
        self.flights, self._reads, self._found = flights, reads, found
        self._known_settings: dict[int, tuple[Sampling, str]] = {}
        self._left = uses if uses is not None else array("i")
        """By class: rows' tasks that may still ask. Shared between the parts of a plan."""
        classes = part.classes if part is not None and part.classes is not None else {}
        # A class with one task has nobody to share with.
        self._classes = {
            id: column
            for id, column in classes.items()
            if max(map(self._left.__getitem__, column), default=0) > 1
        }

    # -- planned -------------------------------------------------------------------------------

    def planned(self, row: RowState, node: Node) -> Hashable | None:
        """The key of a task of the workflow itself, if the plan found others that do its work."""
        column = self._classes.get(node.id)
        if column is None or row.place < 0:
            return None
        found = column[row.place]
        return ("class", found) if self._left[found] > 1 or self._holds(found) else None

    def _holds(self, found: int) -> bool:
        """Whether others have asked before: the last one to ask takes what they left."""
        return self.flights.has(("class", found))

    def _settings(self, call: Call) -> Hashable:
        """What a call asks for besides its prompt and its model. Settings are few objects, used
        many times."""
        known = self._known_settings.get(id(call.sampling))
        if known is None:
            # The object is kept with its text, so that its id cannot be taken by another.
            known = self._known_settings[id(call.sampling)] = (call.sampling, repr(call.sampling))
        tools = repr(call.tools) if call.tools else ""
        return (call.salt, call.raw, known[1], tools)

    def row_ended(self, row: RowState) -> None:
        """The row asks for nothing any more: drop what only it could have asked for."""
        if row.place < 0:
            return
        left = self._left
        for column in self._classes.values():
            found = column[row.place]
            left[found] -= 1
            if left[found] == 0:
                self.flights.drop(("class", found))

    def lease(
        self, row: RowState, node: LLMCall, values: Mapping[str, Any]
    ) -> Callable[[], float] | None:
        """To be called when a call of the workflow itself has ended: what of it is still wanted."""
        if self._liveness is None or row.place < 0:
            return None
        return self._liveness.lease(self._number, row.place, node, values)

    # -- found ---------------------------------------------------------------------------------

    def call_key(self, call: Call, names: Names = OWN) -> Hashable | None:
        """The key of an LLM request; None when equal requests may give different texts. `names`
        says which aliases are one model."""
        if not self._found or not deterministic(call.sampling):
            return None
        digest = blake2b(digest_size=16)
        for part in call.prompt if isinstance(call.prompt, list) else (call.prompt,):
            # Lengths keep neighbouring texts apart.
            text = repr(part) if not isinstance(part, str | Message) else _text(part)
            digest.update(b"%d " % len(text))
            digest.update(text.encode("utf-8", "surrogatepass"))
        model = names.get(call.model, call.model)
        return ("call", type(call.prompt), model, self._settings(call), digest.digest())

    def tool_key(self, tool: Any, arguments: Mapping[str, Any]) -> tuple[Hashable, bool] | None:
        """The key of a tool call and whether its result may be kept; None when it must run."""
        effect = tool.spec.effect
        if not self._found or effect == "write" or (effect == "read" and not self._reads):
            return None
        try:
            return ("tool", id(tool), value_key(dict(arguments))), effect == "pure"
        except Unkeyed:
            return None


def reads_may_merge(workflow: Workflow) -> bool:
    """Whether nothing that the workflow may run writes, as far as can be known."""
    if workflow.live:
        return False
    for body in workflow.bodies():
        for node in body.nodes.values():
            tools: tuple[ToolSpec, ...] = ()
            if isinstance(node, ToolCall | Agent):
                tools = (node.tool,) if isinstance(node, ToolCall) else node.tools
            if any(tool.effect == "write" for tool in tools):
                return False
    return True


def _text(part: str | Message) -> str:
    if isinstance(part, str):
        return part
    calls = repr(part.tool_calls) if part.tool_calls else ""
    return f"{part.role}\0{part.name or ''}\0{calls}\0{part.content}"
