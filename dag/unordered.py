"""Parts of a prompt whose order does not matter: the planner may put first what rows share.

While a body is traced the parts stand between fences, which `fenced` finds in the finished text.
Anywhere else they are joined as written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .template import Free, Part, Slot

MARK = "\x02"
"""Stands in every text that is made from an argument while a body is traced; see `symbols`."""
BEGIN, NEXT, BETWEEN, END = "\x0e", "\x1c", "\x1d", "\x0f"
FENCES = (BEGIN, NEXT, BETWEEN, END)


def unordered(*parts: str, between: str = "\n\n") -> str:
    r"""The parts as one text whose parts may come in any order.

        return plait.unordered(f"Document: {document}", f"Reader: {reader}") + "\n\nAnswer."

    In a planned batch the part that rows have in common goes first, so that it is computed once:
    one order for all rows. The model may answer differently to another order; use it where that
    is fine. Without a plan, parts stay as written.
    """
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(f"an unordered part is text: write f'{part}' to format the value")
        if any(str.__contains__(part, fence) for fence in FENCES):
            raise TypeError("an unordered part cannot hold further unordered parts")
    if not any(str.__contains__(part, MARK) for part in parts):
        return between.join(parts)
    return BEGIN + f"{NEXT}{between}{BETWEEN}".join(parts) + END


def fenced(pieces: Iterable[Part]) -> tuple[tuple[Part, ...], tuple[Free, ...]]:
    """A text without its fences, and where the parts between them begin and end."""
    out: list[Part] = []
    free: list[Free] = []
    spans: list[tuple[int, int]] = []
    start = 0
    for piece in pieces:
        if isinstance(piece, Slot):
            out.append(piece)
            continue
        text = ""
        for letter in piece:
            if letter not in FENCES:
                text += letter
                continue
            if text:
                out.append(text)
            text = ""
            if letter in (NEXT, END):
                spans.append((start, len(out)))
            if letter in (BEGIN, BETWEEN):
                start = len(out)
            if letter == END:
                free.append(tuple(spans))
                spans = []
        if text:
            out.append(text)
    return tuple(out), tuple(free)


def joined(parts: Sequence[Sequence[Part]], between: str = "\n\n") -> tuple[list[Part], Free]:
    """Parts one behind the other, and where each begins and ends."""
    out: list[Part] = []
    spans: list[tuple[int, int]] = []
    for number, part in enumerate(parts):
        if number:
            out.append(between)
        spans.append((len(out), len(out) + len(part)))
        out.extend(part)
    return out, tuple(spans)


def permuted(pieces: Sequence[Part], spans: Free, order: Sequence[int]) -> tuple[Part, ...]:
    """The pieces with the parts at `spans` in another order; what is between them stays."""
    out: list[Any] = list(pieces[: spans[0][0]])
    for place, (_, end) in enumerate(spans):
        start, stop = spans[order[place]]
        out += pieces[start:stop]
        behind = spans[place + 1][0] if place + 1 < len(spans) else len(pieces)
        out += pieces[end:behind]
    return tuple(out)
