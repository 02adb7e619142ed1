"""Prompt templates: static text and slots, recovered from `@llm` bodies by tracing or from YAML.

A template is what the planner can reason about: its static parts are known for every row, its
slots are filled when values arrive. Rendering a template gives exactly what the body returns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from .errors import OutputError, PromptError, first_line
from .messages import Message, Prompt, Role

Step = str | int
Path = tuple[Step, ...]


def path_text(path: Path) -> str:
    """A path as one would write it behind a value: `.names[0]`."""
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)


def project(value: Any, path: Path) -> Any:
    """Follow a path of field names, keys and indices into a value.

    Raises OutputError naming the step that is not there.
    """
    for step in path:
        try:
            if isinstance(step, str) and not isinstance(value, Mapping):
                value = getattr(value, step)
            else:
                value = value[step]
        except Exception as error:  # there is none, or it is the value's own code that fails
            kind = type(value).__name__
            raise OutputError(
                f"no {step!r} in a value of type {kind}: {first_line(error)}"
            ) from error
    return value


def as_text(value: Any) -> str:
    """A value as YAML slots show it: texts as they are, everything else as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)


def in_prompt(value: Any) -> str:
    """A value as a slot shows it that asks for nothing else."""
    return value if type(value) is str else format(value)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a prompt that a value fills, formatted as the f-string said."""

    name: str
    """Argument of the body (or referenced name in YAML)."""
    path: Path = ()
    """Fields and indices below the argument."""
    conversion: str = ""
    """'s', 'r' as in an f-string; 'j' for text-or-JSON; '' for none."""
    spec: str = ""
    """Format specification, as after the colon of an f-string."""

    def render(self, values: Mapping[str, Any]) -> str:
        value = project(values[self.name], self.path)
        match self.conversion:
            case "s":
                value = str(value)
            case "r":
                value = repr(value)
            case "j":
                value = as_text(value)
        return format(value, self.spec) if self.spec else in_prompt(value)

    def shown(self, values: Mapping[str, Any]) -> str | None:
        """The same for those who only count; None where it fails, as the row will."""
        try:
            return self.render(values)
        except Exception:  # of the value's own class
            return None

    def __str__(self) -> str:
        tail = (f"!{self.conversion}" if self.conversion in ("s", "r") else "") + (
            f":{self.spec}" if self.spec else ""
        )
        return "{" + self.name + path_text(self.path) + tail + "}"


Part = str | Slot
Free = tuple[tuple[int, int], ...]
"""Parts of a text whose order does not matter: (first, end) of each among its pieces."""


@dataclass(frozen=True, slots=True)
class Text:
    """One message of a template: its role and its parts, alternating text and slots."""

    role: Role
    parts: tuple[Part, ...]
    free: tuple[Free, ...] = ()
    """Groups of parts that may be exchanged; see `unordered`."""

    def render(self, values: Mapping[str, Any]) -> str:
        return "".join([p if isinstance(p, str) else p.render(values) for p in self.parts])

    def __str__(self) -> str:
        return "".join(str(p) for p in self.parts)


@dataclass(frozen=True, slots=True)
class Template:
    """A whole prompt: messages, or (`bare`) one text that the body returned as a plain string."""

    messages: tuple[Text, ...]
    bare: bool = False

    def render(self, values: Mapping[str, Any]) -> Prompt:
        """The prompt for these argument values, equal to what the body returns for them.

        Raises PromptError when a value cannot be formatted as the slot asks.
        """
        try:
            if self.bare:
                return self.messages[0].render(values)
            return [Message(m.role, m.render(values)) for m in self.messages]
        except OutputError as error:
            raise PromptError(str(error)) from error
        except Exception as error:  # of the values' own classes: properties, __format__
            raise PromptError(
                f"a value cannot be put into the prompt: {first_line(error)}"
            ) from error

    def slots(self) -> Iterator[Slot]:
        """All slots, in the order of the text."""
        for message in self.messages:
            yield from (p for p in message.parts if isinstance(p, Slot))

    def until(self, count: int, filler: str) -> Template:
        """The template with a filler in place of every slot from number `count` on."""
        seen = 0
        messages: list[Text] = []
        for message in self.messages:
            parts: list[Part] = []
            for part in message.parts:
                late = isinstance(part, Slot) and seen >= count
                seen += isinstance(part, Slot)
                parts.append(filler if late else part)
            messages.append(Text(message.role, tuple(parts)))
        return Template(tuple(messages), self.bare)

    def static_prefix(self) -> str:
        """Text before the first slot: what every row shares."""
        out: list[str] = []
        for message in self.messages:
            for part in message.parts:
                if isinstance(part, Slot):
                    return "".join(out)
                out.append(part)
        return "".join(out)

    def __str__(self) -> str:
        if self.bare:
            return str(self.messages[0])
        return "\n".join(f"{m.role}: {m}" for m in self.messages)


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model class."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)
