"""Prompts that a model will refuse, found before anything runs: which, and by how much.

Of a prompt that holds values of earlier calls only the part known from the row is counted, so what
is found is certain; more may turn out too long when values arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from ..dag.arg import refs, resolve
from ..dag.errors import PlaitError
from ..dag.messages import Prompt, user
from ..dag.nodes import Const, LLMCall, Project, Workflow
from ..dag.numbering import Row
from ..dag.template import Template, Text, project
from .row import row_id
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
    model: str
    row: str | int
    tokens: int
    """Of the part that is known."""
    room: int
    """Tokens that a prompt may have."""
    limit: str
    """What sets this room: "context" or "KV memory"."""
    rows: int
    """Rows whose prompts are too long."""

    def __str__(self) -> str:
        others = f" (and those of {self.rows - 1} other rows)" if self.rows > 1 else ""
        hint = "give more --kv-memory" if self.limit == "KV memory" else "shorten it"
        return (
            f"too long: {self.node}, row {self.row!r}{others}: the prompt has at least "
            f"{self.tokens:,} tokens, and the {self.limit} of model {self.model!r} has room for "
            f"{self.room:,}: {hint}"
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def oversized(
    workflow: Workflow, rows: Collection[Row | None], models: Mapping[str, Reader]
) -> list[Oversized]:
    """The calls of a workflow that some rows make with prompts their models refuse."""
    calls = [n for n in workflow.nodes.values() if isinstance(n, LLMCall)]
    longest: dict[str, list[tuple[int, str | int, Prompt]]] = {node.id: [] for node in calls}
    for place, row in enumerate(rows):
        if row is None:
            continue
        for node, prompt in _prompts(workflow, calls, row):
            size = sum(len(m.content) for m in prompt)
            if size >= _room(models[node.model])[0]:  # a token is a character at least
                longest[node.id].append((size, row_id(row, place), prompt))
    found = (_longest(node, longest[node.id], models[node.model]) for node in calls)
    return [one for one in found if one is not None]


def _longest(
    node: LLMCall, prompts: list[tuple[int, str | int, Prompt]], model: Reader
) -> Oversized | None:
    room, limit = _room(model)
    found = [(len(model.encode(prompt)), row) for _, row, prompt in prompts]
    over = [(tokens, row) for tokens, row in found if tokens > room]
    if not over:
        return None
    tokens, row = max(over, key=lambda one: one[0])
    return Oversized(node.id, node.model, row, tokens, room, limit, len(over))


def _room(model: Reader) -> tuple[int, str]:
    context, memory = model.max_context - 1, model.kv_tokens - 1
    return (memory, "KV memory") if memory < context else (context, "context")


def _prompts(workflow: Workflow, calls: list[LLMCall], row: Row) -> Iterator[tuple[LLMCall, Any]]:
    """The known parts of a row's prompts."""
    try:
        values = read_inputs(workflow.inputs, row)
        for node in workflow.nodes.values():
            if isinstance(node, Const):
                values[node.id] = node.value
            elif isinstance(node, Project) and all(id in values for id in refs(node.of)):
                values[node.id] = project(resolve(node.of, values), node.path)
    except PlaitError:
        return  # the row fails when it begins
    for node in calls:
        known = {n: resolve(a, values) for n, a in node.bound if all(i in values for i in refs(a))}
        if isinstance(node.prompt, Template):
            try:
                prompt = _part(node.prompt, known).render(known)
            except PlaitError:
                continue
            yield node, [user(prompt)] if isinstance(prompt, str) else prompt


def _part(template: Template, known: Mapping[str, Any]) -> Template:
    """A template without the slots that nothing is known of."""

    def part(text: Text) -> Text:
        return replace(
            text, parts=tuple(p for p in text.parts if isinstance(p, str) or p.name in known)
        )

    return replace(template, messages=tuple(part(text) for text in template.messages))
