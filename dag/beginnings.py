"""What known texts begin with in common: two turns of a conversation, reports with one preamble.

Two rows can share a prompt's prefix up to some place inside a slot's value. Texts are sorted, so
those that agree longest are neighbours, and a run of neighbours is split where they part. Only
beginnings that are worth a place in the prefix tree are kept: `LEAST` characters more than the one
before, `DEEPEST` of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from .filled import Filled
from .lengths import Lengths
from .numbering import Numbering
from .numbers import Column
from .prefixes import Vertex

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


@dataclass(slots=True, eq=False)
class _Met:
    """The values that meet at a vertex, of all nodes whose prompts go through it."""

    values: Mapping[Hashable, Column | int]
    """Columns by id, values that are one for all rows by number."""
    chains: Mapping[int, Sequence[Beginning]] | None = None
    """By value, once they have been looked for."""
    levels: dict[int, Sequence[Level]] = field(default_factory=dict)
    """By the id of the column."""


class Begun:
    """The beginnings of values that are known before running."""

    def __init__(self, numbering: Numbering, lengths: Lengths) -> None:
        self._numbering, self._lengths = numbering, lengths
        self._found_between: dict[tuple[int, Cut], Beginning] = {}
        """By where the beginning before ends, which is another at another vertex."""
        self._meeting: dict[Vertex, dict[Hashable, Column | int]] = {}
        self._met: dict[Vertex, _Met] = {}
        self._alike: dict[Hashable, _Met] = {}
        """Where the same columns meet at several vertices, they are gone through once."""
        self._texts: dict[int, Mapping[int, str]] = {}

    def meet(self, vertex: Vertex, filled: Filled) -> None:
        """Note what a node shows at a slot; to be done for all nodes before any is walked."""
        if filled.as_it_is:
            values = filled.values
            key = ("one", values) if isinstance(values, int) else id(values)
            self._meeting.setdefault(vertex, {})[key] = values

    def levels(self, vertex: Vertex, values: Column | int, rows: int) -> Sequence[Level]:
        """What values at this vertex begin with in common with others there: the shortest
        beginnings, then the next ones. None where they are not shown as they are."""
        if vertex not in self._meeting:
            return ()
        met = self._at(vertex)
        if met.chains is None:
            met.chains = self._found(met.values.values())
        if isinstance(values, int):
            chain = met.chains.get(values, ())
            return _levels({values: chain}, array("i", [values]) * rows) if chain else ()
        if id(values) not in met.levels:
            mine = {n: met.chains[n] for n in set(values) if n in met.chains}
            met.levels[id(values)] = _levels(mine, values)
        return met.levels[id(values)]

    def _at(self, vertex: Vertex) -> _Met:
        if vertex not in self._met:
            values = self._meeting[vertex]
            self._met[vertex] = self._alike.setdefault(frozenset(values), _Met(values))
        return self._met[vertex]

    def _found(self, values: Iterable[Column | int]) -> Mapping[int, Sequence[Beginning]]:
        texts: dict[int, str] = {}
        for one in values:
            texts |= self._texts_of(one)
        cuts = beginnings(set(texts.values()))
        return {number: self._chain(cuts[text]) for number, text in texts.items() if text in cuts}

    def _texts_of(self, values: Column | int) -> Mapping[int, str]:
        known = self._numbering.values
        if isinstance(values, int):
            return {values: known[values]} if type(known.get(values)) is str else {}
        if id(values) not in self._texts:
            found = {n: known[n] for n in set(values) if type(known.get(n)) is str}
            self._texts[id(values)] = found
        return self._texts[id(values)]

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
        return self._numbering.keyed("beginning", blake2b(begun, digest_size=16).digest())


def _at(chain: Sequence[Beginning], level: int) -> Beginning:
    if level < len(chain):
        return chain[level]
    return Beginning(-1, chain[-1].end if chain else 0, 0.0)


def _levels(chains: Mapping[int, Sequence[Beginning]], values: Column) -> Sequence[Level]:
    deepest = max(map(len, chains.values()), default=0)
    levels = [{n: _at(chain, level) for n, chain in chains.items()} for level in range(deepest)]
    none = _at((), 0)
    return [_level([level.get(value, none) for value in values]) for level in levels]


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
