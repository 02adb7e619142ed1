"""What known texts begin with in common: two turns of a conversation, reports with one preamble.

Two rows can share a prompt's prefix up to some place inside a slot's value. Texts are sorted, so
those that agree longest are neighbours, and a run of neighbours is split where they part. Only
beginnings that are worth a place in the prefix tree are kept: `LEAST` characters more than the one
before, `DEEPEST` of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix

from .lengths import Lengths
from .numbering import Numbering
from .template import Slot

LEAST = 64
"""Characters: about a page of KV."""
DEEPEST = 4
"""Beginnings of one text that are told apart, the shortest first."""
Ends = tuple[int, ...]
"""Characters up to where each beginning of a text goes that others have as well, ascending."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a value begins with in common with others."""

    number: int
    """Of its text; equal texts have equal ones. -1 stands for none."""
    end: int
    """Characters."""
    tokens: float
    """Behind the beginning before."""


class Begun:
    """The beginnings of all values that are known before running, by their numbers."""

    def __init__(self, numbering: Numbering, lengths: Lengths) -> None:
        self._numbering, self._lengths = numbering, lengths
        self._known: dict[int, tuple[Beginning, ...]] = {}

    def levels(self, slot: Slot, numbers: Collection[int]) -> Iterator[Mapping[int, Beginning]]:
        """What values in this slot begin with in common: for each of these numbers the shortest
        beginning, then the next one. A value that has no more of them repeats its last end."""
        as_it_is = slot.conversion != "r" and not slot.path and not slot.spec
        if not as_it_is or not self._ends:
            return
        found = {number: self._of(number) for number in numbers}
        for level in range(max(map(len, found.values()), default=0)):
            yield {
                number: begun[level] if level < len(begun) else _nothing(begun)
                for number, begun in found.items()
            }

    @cached_property
    def _ends(self) -> Mapping[str, Ends]:
        return beginnings({v for v in self._numbering.values.values() if type(v) is str})

    def _of(self, number: int) -> tuple[Beginning, ...]:
        if number not in self._known:
            value = self._numbering.values.get(number)
            text = value if type(value) is str else ""
            ends = self._ends.get(text, ())
            self._known[number] = tuple(
                Beginning(
                    self._numbering.value(text[:end]), end, self._lengths.of_text(text[start:end])
                )
                for start, end in zip((0, *ends), ends, strict=False)
            )
        return self._known[number]


def _nothing(begun: Sequence[Beginning]) -> Beginning:
    return Beginning(-1, begun[-1].end if begun else 0, 0.0)


def beginnings(texts: Iterable[str]) -> Mapping[str, Ends]:
    """The beginnings of different texts that at least two of them have; texts with none are left
    out."""
    ordered = sorted(text for text in texts if len(text) >= LEAST)
    agree = [0, *(_agree(a, b) for a, b in zip(ordered, ordered[1:], strict=False)), 0]
    found: dict[str, Ends] = {}
    _split(ordered, agree, range(len(ordered)), (), found)
    return found


def _split(
    texts: Sequence[str], agree: Sequence[int], run: range, ends: Ends, found: dict[str, Ends]
) -> None:
    """Give the texts of a run, which all begin alike up to the last of `ends`, what parts of the
    run have in common beyond. `agree[i]`: characters that texts i - 1 and i begin with alike."""
    longer = (ends[-1] if ends else 0) + LEAST
    start = run.start
    for at in range(run.start + 1, run.stop + 1):
        if at < run.stop and agree[at] >= longer:
            continue
        if at - start > 1:
            deeper = (*ends, min(agree[start + 1 : at]))
            found.update(dict.fromkeys(texts[start:at], deeper))
            if len(deeper) < DEEPEST:
                _split(texts, agree, range(start, at), deeper, found)
        start = at


def _agree(one: str, two: str) -> int:
    """Characters that two texts begin with alike."""
    most = min(len(one), len(two))
    for at in range(0, most, LEAST):
        a, b = one[at : at + LEAST], two[at : at + LEAST]
        if a != b:
            return at + len(commonprefix((a, b)))
    return most
