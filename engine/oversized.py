"""Prompts that a model will refuse, found before anything runs: which, and by how much.

Of a prompt that holds values of earlier calls only the part known from the row is counted, so what
is found is certain; more may turn out too long when values arrive. Bodies of maps are looked at for
every item of a list that the row knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
            f"{self.tokens:,} tokens, and the {self.limit} of model {self.model!r} has room for "
            f"{self.room:,}: {hint}"
        )

    def as_dict(self) -> dict[str, Any]:
        names = ("node", "model", "row", "tokens", "room", "limit", "rows")
        return {name: getattr(self, name) for name in names}


def oversized(
    workflow: Workflow, rows: Iterable[Row | None], models: Mapping[str, Reader]
) -> list[Oversized]:
    """The calls of a workflow that some rows make with prompts their models refuse. Calls of models
    that are not given are not looked at."""
    calls = {
        name: n.model for name, n in named_nodes(workflow)
        if isinstance(n, LLMCall) and n.model in models
    }  # fmt: skip
    rooms = {alias: room_of(model) for alias, model in models.items()}
    longest: dict[str, tuple[int, int, str | int]] = {}
    places: dict[str, set[int]] = {}
    for place, row in enumerate(rows):
        for name, prompt in _prompts(workflow, row) if row is not None else ():
            alias = calls.get(name)
            # A token is a character at least.
            if row is None or alias is None or _size(prompt) < rooms[alias][0]:
                continue
            tokens = _tokens(models[alias], prompt)
            if tokens > rooms[alias][0]:
                places.setdefault(name, set()).add(place)
                if name not in longest or tokens > longest[name][0]:
                    longest[name] = (tokens, place, row_id(row, place))
    found = []
    for name, alias in calls.items():
        if name in longest:
            tokens, place, id = longest[name]
            room, over = room_of(models[alias], tokens), frozenset(places[name])
            found.append(Oversized(name, alias, id, tokens, *room, over, place))
    return found


def _size(prompt: Sequence[Message]) -> int:
    """Characters of a prompt."""
    return sum(len(m.content) for m in prompt)


def _tokens(model: Reader, prompt: list[Message]) -> int:
    """Tokens of a prompt. One that is refused for its characters is not tokenized whole: the
    fewest that it can have."""
    most = model.max_context * MAX_CHARS_PER_TOKEN
    try:
        if _size(prompt) <= most:
            return len(model.encode(prompt))
        return max(
            len(model.encode(_beginning(prompt, most))), _size(prompt) // MAX_CHARS_PER_TOKEN
        )
    except PlaitError:
        return 0  # refused for what is in it: the row will say so


def _beginning(prompt: Sequence[Message], most: int) -> list[Message]:
    """So many characters of a prompt."""
    kept = []
    for message in prompt:
        kept.append(replace(message, content=message.content[:most]))
        most = max(0, most - len(message.content))
    return kept


def room_of(model: Reader, tokens: int = 0) -> tuple[int, str]:
    """Tokens that a prompt may have, and what says so: of one with so many tokens, not the memory
    where more of it would not help."""
    context, memory = model.max_context - 1, model.kv_tokens - 1
    return (memory, "KV memory") if memory < context >= tokens else (context, "context")


def _prompts(workflow: Workflow, row: Row) -> Iterator[tuple[str, list[Message]]]:
    """The known parts of a row's prompts, each with the name of its call."""
    try:
        values = read_inputs(workflow.inputs, row)
    except PlaitError:
        return  # the row fails when it begins
    yield from _prompts_in(workflow, values)


def _prompts_in(
    workflow: Workflow, values: dict[str, Any], way: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[Message]]]:
    """The same of a workflow or body with these inputs; `way` leads to the body."""
    for node in workflow.nodes.values():
        with suppress(PlaitError):  # the row fails there, and nothing behind it is known
            match node:
                case Const(value=value):
                    values[node.id] = value
                case Project(of=of, path=path) if _known(of, values):
                    values[node.id] = project(resolve(of, values), path)
                case LLMCall(prompt=Template() as template):
                    known = _resolved(node.bound, values)
                    prompt = _part(template, known).render(known)
                    messages = [user(prompt)] if isinstance(prompt, str) else prompt
                    yield counted_name(way, node.id), messages
                case Map(over=over) if _known(over, values):
                    for inputs in _items(node, values):
                        yield from _prompts_in(node.body, inputs, (*way, node.id))


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
