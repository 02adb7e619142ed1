"""What known texts begin with in common: two turns of a conversation, reports with one preamble.

Two rows can share a prompt's prefix up to some place inside a slot's value. Texts are sorted, so
those that agree longest are neighbours, and a run of neighbours is split where they part. Only
beginnings that are worth a place in the prefix tree are kept: `LEAST` characters more than the one
before, `DEEPEST` of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from .lengths import Lengths
from .numbering import Numbering
from .numbers import Column
from .template import Slot

LEAST = 64
"""Characters: about a page of KV."""
DEEPEST = 4
"""Beginnings of one text that are told apart, the shortest first."""
STRIDES = (1 << 14, 1 << 10, 1 << 6, 1 << 3, 1)
"""Characters compared at a time."""
Cut = tuple[int, str]
"""Characters up to where a beginning goes that others have too, and the first text that has it."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a value begins with in common with others."""

    number: int
    """Of its text; equal texts have equal ones. -1 stands for none."""
    end: int
    """Characters."""
    tokens: float
    """Behind the beginning before."""


@dataclass(frozen=True, slots=True)
class Level:
    """A beginning of every value of a column, by row. A value that has no more of them has -1, no
    tokens, and the end of its last one."""

    numbers: Column
    tokens: list[float]
    ends: Column


class Begun:
    """The beginnings of values that are known before running."""

    def __init__(self, numbering: Numbering, lengths: Lengths) -> None:
        self._numbering, self._lengths = numbering, lengths
        self._found_between: dict[tuple[int, Cut], Beginning] = {}
        """By where the beginning before ends, which is another in another column."""
        self._columns: dict[int, tuple[Column, Sequence[Level]]] = {}
        """By id, with the column itself: an id alone may come again."""

    def levels(self, slot: Slot, values: Column) -> Sequence[Level]:
        """What values in this slot begin with in common with others of their column: the shortest
        beginnings, then the next ones."""
        if slot.conversion == "r" or slot.path or slot.spec:
            return ()  # not shown as it is
        if id(values) not in self._columns:
            self._columns[id(values)] = values, self._found(values)
        return self._columns[id(values)][1]

    def _found(self, values: Column) -> Sequence[Level]:
        known = self._numbering.values
        texts = {n: known[n] for n in set(values) if type(known.get(n)) is str}
        cuts = beginnings(texts.values())
        if not cuts:
            return ()
        chains = {number: self._chain(cuts.get(text, ())) for number, text in texts.items()}
        deepest = max(map(len, chains.values()))
        levels = [{n: _at(chain, level) for n, chain in chains.items()} for level in range(deepest)]
        none = _at((), 0)
        return [_level([level.get(value, none) for value in values]) for level in levels]

    def _chain(self, cuts: Sequence[Cut]) -> Sequence[Beginning]:
        chain: list[Beginning] = []
        start = 0
        for cut in cuts:
            end, first = cut
            if (start, cut) not in self._found_between:
                tokens = self._lengths.of_text(first[start:end])
                self._found_between[start, cut] = Beginning(self._number(end, first), end, tokens)
            chain.append(self._found_between[start, cut])
            start = end
        return chain

    def _number(self, end: int, text: str) -> int:
        if end == len(text):
            return self._numbering.value(text)
        begun = text[:end].encode("utf-8", "surrogatepass")
        return self._numbering.combine_one("beginning", blake2b(begun, digest_size=16).digest())


def _at(chain: Sequence[Beginning], level: int) -> Beginning:
    if level < len(chain):
        return chain[level]
    return Beginning(-1, chain[-1].end if chain else 0, 0.0)


def _level(by_row: Sequence[Beginning]) -> Level:
    numbers, ends = (b.number for b in by_row), (b.end for b in by_row)
    return Level(array("i", numbers), [b.tokens for b in by_row], array("i", ends))


def beginnings(texts: Iterable[str]) -> Mapping[str, tuple[Cut, ...]]:
    """The beginnings of different texts that at least two of them have, ascending; texts with none
    are left out."""
    ordered = sorted(text for text in texts if len(text) >= LEAST)
    agree = [0, *(_agree(a, b) for a, b in zip(ordered, ordered[1:], strict=False)), 0]
    found: dict[str, tuple[Cut, ...]] = {}
    _split(ordered, agree, range(len(ordered)), (), found)
    return found


def _split(
    texts: Sequence[str], agree: Sequence[int], run: range, cuts: tuple[Cut, ...],
    found: dict[str, tuple[Cut, ...]],
) -> None:  # fmt: skip
    """Give the texts of a run, which all begin alike up to the last of `cuts`, what parts of the
    run have in common beyond. `agree[i]`: characters that texts i - 1 and i begin with alike."""
    longer = (cuts[-1][0] if cuts else 0) + LEAST
    start = run.start
    for at in range(run.start + 1, run.stop + 1):
        if at < run.stop and agree[at] >= longer:
            continue
        if at - start > 1:
            deeper = (*cuts, (min(agree[start + 1 : at]), texts[start]))
            found.update(dict.fromkeys(texts[start:at], deeper))
            if len(deeper) < DEEPEST:
                _split(texts, agree, range(start, at), deeper, found)
        start = at


def _agree(one: str, two: str) -> int:
    """Characters that two texts begin with alike."""
    at, most = 0, min(len(one), len(two))
    for size in STRIDES:
        while at + size <= most and one[at : at + size] == two[at : at + size]:
            at += size
    return at
