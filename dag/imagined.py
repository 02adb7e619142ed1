"""Values and prompts of a rehearsal: what is known of them, and tokens made up for the rest.

A value has a number, equal for equal values; its text when it is known before running, else how
many tokens it will have. A prompt becomes token ids that agree as far as the real ones would.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .arg import Arg, Fill, Lit, Rec, Ref, Seq
from .errors import OutputError
from .keys import Unkeyed, value_key
from .messages import Role
from .template import Path, Slot, Template, Text, project

UNKNOWN: Any = object()
"""Stands for what a value is when that is not known."""
MADE_UP = 1 << 32
"""Made-up token ids begin here, behind those of every vocabulary."""
LONGEST = 1 << 20
"""Made-up ids of one value."""
CHARACTERS = 4
"""Per token where no tokenizer has been asked."""
FILLERS = ("x", "0")
"""Two values for what is not there yet: they share no token."""
FRAME = 4
"""Tokens before every message where no chat template has been asked."""


@dataclass(frozen=True, slots=True)
class Imagined:
    """A value of a rehearsal."""

    number: int
    tokens: float = 0.0
    """When it is not known what it is."""
    known: Any = UNKNOWN
    items: tuple[Imagined, ...] | None = None
    """Of a list that has been put together of these."""

    def inside(self, path: Path) -> tuple[Imagined, Path]:
        """The item that a path leads to, and what is left of the path."""
        items = self.items or ()
        match path:
            case (int(place), *rest) if -len(items) <= place < len(items):
                return items[place].inside(tuple(rest))
        return self, path


Frame = Callable[[tuple[Role, ...]], Sequence[Sequence[int]]]
"""Token ids that a chat template puts before the first of messages with these roles, between them,
and behind the last: one sequence more than there are messages."""


class Imagination:
    """Gives out numbers and token ids; one for a whole rehearsal."""

    def __init__(
        self, encode: Callable[[str], Sequence[int]] | None = None, frame: Frame | None = None,
        characters: float = CHARACTERS,
    ) -> None:  # fmt: skip
        """`encode`: token ids of a text, without those that a tokenizer puts around it;
        `characters`: per token, of texts that are not known."""
        self.characters = characters
        self._frame = frame or self._guess_frame
        self._encode = encode or self._guess
        self._numbers: dict[Hashable, int] = {}
        self._texts: dict[str, Sequence[int]] = {}

    # -- values --------------------------------------------------------------------------------

    def number(self, key: Hashable) -> int:
        """Equal for equal keys."""
        return self._numbers.setdefault(key, len(self._numbers))

    def fresh(self) -> int:
        """Equal to nothing else."""
        return self.number(("fresh", len(self._numbers)))

    def given(self, value: Any) -> Imagined:
        """A value that is known."""
        try:
            number = self.number(("value", value_key(value)))
        except Unkeyed:
            number = self.fresh()
        return Imagined(number, known=value)

    def part(self, of: Imagined, path: Path, share: float) -> Imagined:
        """A part of a value; of one that is not known, this share of its tokens."""
        of, path = of.inside(path)
        if not path:
            return of
        if of.known is not UNKNOWN:
            try:
                return self.given(project(of.known, path))
            except OutputError:
                pass
        return Imagined(self.number(("part", of.number, path)), of.tokens * share)

    def resolve(self, arg: Arg, values: Mapping[str, Imagined]) -> Imagined:
        """An argument's value."""
        match arg:
            case Ref(id):
                return values[id]
            case Lit(value):
                return self.given(value)
            case Seq(items, kind):
                found = [self.resolve(item, values) for item in items]
                if all(v.known is not UNKNOWN for v in found):
                    return self.given(kind(v.known for v in found))
                return self.joined(found, kind)
            case Rec(pairs):
                named = {key: self.resolve(item, values) for key, item in pairs}
                if all(v.known is not UNKNOWN for v in named.values()):
                    return self.given({key: v.known for key, v in named.items()})
                return self._joined(tuple(named), list(named.values()))
            case Fill(text, bound):
                named = {name: self.resolve(item, values) for name, item in bound}
                if all(v.known is not UNKNOWN for v in named.values()):
                    shown = [p if isinstance(p, str) else self._shown(p, named) for p in text.parts]
                    return self.given("".join(s for s in shown if s is not None))
                tokens = len(self.text(text, named))
                key = ("fill", text, tuple(v.number for v in named.values()))
                return Imagined(self.number(key), tokens)

    def joined(self, items: Sequence[Imagined], kind: type = list) -> Imagined:
        """A list of these."""
        return replace(self._joined(kind, items), items=tuple(items))

    def _joined(self, kind: Hashable, items: Sequence[Imagined]) -> Imagined:
        tokens = sum(len(self.ids(item)) + 2 for item in items)
        return Imagined(self.number((kind, tuple(v.number for v in items))), tokens)

    # -- tokens --------------------------------------------------------------------------------

    def prompt(self, template: Template, values: Mapping[str, Imagined]) -> list[int]:
        """The token ids of a prompt, as far as they can be told."""
        first, *others = self._frame(tuple(message.role for message in template.messages))
        out = list(first)
        for message, behind in zip(template.messages, others, strict=True):
            out += self.text(message, values)
            out += behind
        return out

    def first(self, template: Template, values: Mapping[str, Imagined]) -> int:
        """Tokens of a prompt up to the end of its first message."""
        before = self._frame(tuple(message.role for message in template.messages))[0]
        return len(before) + len(self.text(template.messages[0], values))

    def head(self, template: Template, early: int, values: Mapping[str, Imagined]) -> list[int]:
        """The token ids that a prompt begins with whatever its slots from number `early` on say."""
        one, two = (self.prompt(template.until(early, filler), values) for filler in FILLERS)
        pairs = enumerate(zip(one, two, strict=False))
        return one[: next((i for i, (a, b) in pairs if a != b), None)]

    def text(self, text: Text, values: Mapping[str, Imagined]) -> list[int]:
        """Token ids of one message."""
        out: list[int] = []
        known = ""
        for part in text.parts:
            shown = part if isinstance(part, str) else self._shown(part, values)
            if shown is not None:
                known += shown
                continue
            assert isinstance(part, Slot)
            value, path = values[part.name].inside(part.path)
            out += self.encoded(known)
            if value.known is UNKNOWN:
                key = ("slot", value.number, path, part.conversion, part.spec)
                out += self.made_up(key, round(value.tokens))
            else:
                out += self.ids(self.part(value, path, 1.0))
            known = ""
        return out + list(self.encoded(known))

    def length(self, value: Imagined) -> float:
        """Characters of a value as text."""
        if value.known is UNKNOWN:
            return value.tokens * self.characters
        return len(self._said(value.known))

    def ids(self, value: Imagined) -> Sequence[int]:
        """Token ids of a value as text."""
        if value.known is not UNKNOWN:
            return self.encoded(self._said(value.known))
        return self.made_up(("slot", value.number, (), "", ""), round(value.tokens))

    def made_up(self, key: Hashable, count: int) -> range:
        """Token ids that nothing else has."""
        first = MADE_UP + self.number(("ids", key)) * LONGEST
        return range(first, first + min(count, LONGEST))

    def encoded(self, text: str) -> Sequence[int]:
        """Token ids of a known text; remembered, as texts come again."""
        found = self._texts.get(text)
        if found is None:
            found = self._texts[text] = self._encode(text)
        return found

    def _shown(self, slot: Slot, values: Mapping[str, Imagined]) -> str | None:
        value = values.get(slot.name)
        if value is None:
            return ""
        if value.known is UNKNOWN:
            return None
        return slot.shown({slot.name: value.known}) or ""  # without any the row will fail

    def _said(self, value: Any) -> str:
        return Slot("value").shown({"value": value}) or ""

    def _guess_frame(self, roles: tuple[Role, ...]) -> Sequence[Sequence[int]]:
        return [*(self.made_up(("role", role), FRAME) for role in roles), ()]

    def _guess(self, text: str) -> Sequence[int]:
        pieces = (text[i : i + CHARACTERS] for i in range(0, len(text), CHARACTERS))
        return [self.number(("piece", piece)) for piece in pieces]
