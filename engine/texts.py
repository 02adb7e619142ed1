"""Texts as a model's tokenizer reads them, for those who count tokens before anything runs.

A text that the model refuses fails its own row when that runs. Counting goes on: what no tokenizer
takes (half of a character) is read as a question mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from ..dag.errors import PlaitError
from ..dag.imagined import CHARACTERS, FILLERS, Frame
from ..dag.messages import Message, Role
from ..dag.numbering import Row
from ..dag.size import texts_in

if TYPE_CHECKING:
    from .llm import LLM

ANYTHING = "some text to be measured"
SAMPLE = 20_000
"""Characters of the rows that are tokenized to learn how long a token is."""
LOOKED = 10_000
"""Values of the rows that are looked at for these, with what is in them."""


def reader(llm: LLM) -> Callable[[str], Sequence[int]]:
    """Token ids of a text, whatever is in it, without those that begin every prompt."""
    begin = len(llm.encode(""))
    return lambda text: llm.encode(text.encode("utf-8", "replace").decode("utf-8"))[begin:]


def frame_of(llm: LLM) -> Frame:
    """Tokens that a model's prompts have around their messages.

    Of two prompts that differ in nothing but what their messages say, it is what both have.
    """

    @cache
    def frame(roles: tuple[Role, ...]) -> Sequence[Sequence[int]]:
        try:
            one, two = ([*llm.encode([Message(role, say) for role in roles])] for say in FILLERS)
        except PlaitError:  # a template that refuses these roles: the calls will say so
            return [()] * (len(roles) + 1)
        said = [i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
        if len(one) != len(two) or len(said) != len(roles):  # not one token each: it stands before
            return [one[: max(0, len(one) - len(roles))], *[()] * len(roles)]
        starts = [0, *(place + 1 for place in said)]
        return [one[a:b] for a, b in zip(starts, [*said, len(one)], strict=True)]

    return frame


def characters_of(llm: LLM, sample: str) -> float:
    """Characters per token in texts like this one."""
    return len(sample) / max(1, len(reader(llm)(sample))) if sample else CHARACTERS


def sample_of(rows: Iterable[Row | None]) -> str:
    """Some of what the rows say; if that is nothing, something."""
    out: list[str] = []
    size = 0
    for text in texts_in(chain.from_iterable((row or {}).values() for row in rows), LOOKED):
        out.append(text[:SAMPLE])
        size += len(out[-1])
        if size > SAMPLE:
            break
    return "\n".join(out) or ANYTHING
