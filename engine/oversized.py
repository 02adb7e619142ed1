"""Prompts that a model will refuse, found before anything runs: which, and by how much.

Of a prompt that holds values of earlier calls only the part known from the row is counted, so what
is found is certain; more may turn out too long when values arrive. Bodies of maps are looked at for
every item of a list that the row knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..dag.arg import Arg, Args, refs, resolve
from ..dag.errors import PlaitError
from ..dag.identity import row_id
from ..dag.messages import Message, Prompt, user
from ..dag.names import counted_name, named_nodes
from ..dag.nodes import Const, LLMCall, Map, Project, Workflow
from ..dag.numbering import Row
from ..dag.template import Template, Text, project
from .backends.local import MAX_CHARS_PER_TOKEN
from .values import read_inputs

BYTES = 4
"""Most of a character."""
BODY = 100
"""Characters that a body (of a row, of an item) costs beside its prompts: to go through one takes
as long as to read so many."""


class Reader(Protocol):
    """What is asked of a model."""

    @property
    def max_context(self) -> int: ...
    @property
    def kv_tokens(self) -> int: ...
    def encode(self, prompt: Prompt) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Oversized:
    """The longest prompt of a call, where it is longer than its model takes."""

    node: str
    """The name under which a run counts it."""
    model: str
    row: str | int
    tokens: int
    """Of the part that is known; of a text that is refused for its characters, the fewest that it
    can have."""
    room: int
    """Tokens that a prompt may have."""
    limit: str
    """What sets this room: "context" or "KV memory"."""
    places: frozenset[int]
    """Places of the rows whose prompts are too long."""
    place: int
    """That of the row with the longest."""

    @property
    def rows(self) -> int:
        """Rows whose prompts are too long."""
        return len(self.places)

    def __str__(self) -> str:
        more = self.rows - 1
        others = f" (and those of {more} other row{'s' * (more > 1)})" if more else ""
        hint = "give more --kv-memory" if self.limit == "KV memory" else "shorten it"
        return (
            f"too long: {self.node}, row {self.row!r}{others}: the prompt has at least "
            f"{self.tokens:,} tokens, and the {self.limit} of model {self.model!r} has room for a "
            f"prompt of {self.room:,}: {hint}"
        )

    def as_dict(self) -> dict[str, Any]:
        names = ("node", "model", "row", "tokens", "room", "limit", "rows")
        return {name: getattr(self, name) for name in names}


def oversized(
    workflow: Workflow, rows: Iterable[Row | None], models: Mapping[str, Reader]
) -> list[Oversized]:
    """The calls of a workflow that some rows make with prompts their models refuse. Calls of models
    that are not given are not looked at."""
    search = Search(workflow, models)
    for place, row in enumerate(rows):
        if row is not None:
            search.look(place, row)
    return search.found


class Search:
    """Looks for prompts that are too long, row by row, until it has read so many characters."""

    def __init__(
        self, workflow: Workflow, models: Mapping[str, Reader], characters: float = math.inf
    ) -> None:
        self._workflow, self._models, self._left = workflow, models, characters
        self._longest: dict[str, tuple[int, int, str | int]] = {}
        """By call: tokens of its longest prompt, place and identity of the row."""
        self._places: dict[str, set[int]] = {}
        """By call: places of the rows."""

    @property
    def over(self) -> bool:
        """Whether it has read enough. The prompt that is one too many is read to its end."""
        return self._left <= 0

    @property
    def found(self) -> list[Oversized]:
        """The calls with prompts that are too long, in the order of the workflow."""
        found = []
        for name, node in named_nodes(self._workflow):
            if name in self._longest and isinstance(node, LLMCall):
                tokens, place, id = self._longest[name]
                room, over = room_of(self._models[node.model], tokens), self._places[name]
                one = Oversized(name, node.model, id, tokens, *room, frozenset(over), place)
                found.append(one)
        return found

    def look(self, place: int, row: Row) -> None:
        """Look at what is known of a row's prompts."""
        with suppress(PlaitError):  # the row fails when it begins
            values = read_inputs(self._workflow.inputs, row)
            self._body(self._workflow, values, (), (place, row_id(row, place)))

    def _body(
        self, workflow: Workflow, values: dict[str, Any], way: tuple[str, ...],
        row: tuple[int, str | int],
    ) -> None:  # fmt: skip
        """Look at a workflow or body with these inputs; `way` leads to the body."""
        self._left -= BODY
        for node in workflow.nodes.values():
            if self.over:
                return
            with suppress(PlaitError):  # the row fails there, and nothing behind it is known
                match node:
                    case Const(value=value):
                        values[node.id] = value
                    case Project(of=of, path=path) if _known(of, values):
                        values[node.id] = project(resolve(of, values), path)
                    case LLMCall(model=model) if model in self._models:
                        self._prompt(counted_name(way, node.id), model, _prompt(node, values), row)
                    case Map(over=over) if _known(over, values):
                        for inputs in _items(node, values):
                            self._body(node.body, inputs, (*way, node.id), row)
                            if self.over:
                                break

    def _prompt(
        self, name: str, alias: str, prompt: list[Message], row: tuple[int, str | int]
    ) -> None:
        model, size = self._models[alias], sum(len(message.content) for message in prompt)
        room, _ = room_of(model)
        self._left -= size
        if BYTES * size < room or sum(len(_bytes(message.content)) for message in prompt) < room:
            return  # a token is a byte at least
        refused = size > model.max_context * MAX_CHARS_PER_TOKEN  # without being tokenized
        tokens = size // MAX_CHARS_PER_TOKEN if refused else len(model.encode(prompt))
        if tokens > room:
            self._places.setdefault(name, set()).add(row[0])
            if name not in self._longest or tokens > self._longest[name][0]:
                self._longest[name] = (tokens, *row)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def room_of(model: Reader, tokens: int = 0) -> tuple[int, str]:
    """Tokens that a prompt may have, and what says so: of one with so many tokens, not the memory
    where more of it would not help."""
    context, memory = model.max_context - 1, model.kv_tokens - 1
    return (memory, "KV memory") if memory < context >= tokens else (context, "context")


def _prompt(node: LLMCall, values: Mapping[str, Any]) -> list[Message]:
    """What is known of a call's prompt."""
    if not isinstance(node.prompt, Template):
        return []
    known = _resolved(node.bound, values)
    prompt = _part(node.prompt, known).render(known)
    return [user(prompt)] if isinstance(prompt, str) else prompt


def _items(node: Map, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is known of the inputs of a map's body, item by item."""
    items = resolve(node.over, values)
    if not isinstance(items, list | tuple) or len(items) > node.max_width:
        return  # the row fails there
    shared = _resolved(node.bound, values)
    unknown = {name for name, _ in node.bound} - shared.keys()
    inputs = tuple(i for i in node.body.inputs if i.id not in unknown)
    for item in items:
        with suppress(PlaitError):  # the row fails there
            yield read_inputs(inputs, {**shared, node.item: item})


def _known(arg: Arg, values: Mapping[str, Any]) -> bool:
    return all(id in values for id in refs(arg))


def _resolved(bound: Args, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of which everything is known."""
    return {name: resolve(arg, values) for name, arg in bound if _known(arg, values)}


def _part(template: Template, known: Mapping[str, Any]) -> Template:
    """A template without the slots that nothing is known of."""

    def part(text: Text) -> Text:
        return replace(
            text, parts=tuple(p for p in text.parts if isinstance(p, str) or p.name in known)
        )

    return replace(template, messages=tuple(part(text) for text in template.messages))
