"""Which rows are alike: rows that have one number in a column are of one kind.

Few kinds of likeness occur in a batch, however many columns it has: what is made from a report
differs where reports differ. So the partitions of the rows are few objects, each held once.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import count
from typing import TypeAlias

Column: TypeAlias = "array[int]"
"""Numbers by row."""


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """The kind of every row; two partitions are the same if they are one object."""

    kinds: Column
    """By row, from 0 in the order of the first rows."""
    count: int

    @property
    def different(self) -> bool:
        """Whether no row is like another."""
        return self.count == len(self.kinds)


class Partitions:
    """The partitions of a batch's rows."""

    def __init__(self) -> None:
        self._known: dict[bytes, Partition] = {}
        self._joined: dict[tuple[Partition, Partition], Partition] = {}

    def of(self, values: Iterable[Hashable]) -> Partition:
        """Rows with equal values are alike."""
        kinds: dict[Hashable, int] = defaultdict(count().__next__)
        column = array("i", map(kinds.__getitem__, values))
        return self._known.setdefault(column.tobytes(), Partition(column, len(kinds)))

    def join(self, partitions: Iterable[Partition]) -> Partition:
        """Rows that are alike in all of these, one at least, are alike."""
        return reduce(self._join, partitions)

    def _join(self, one: Partition, two: Partition) -> Partition:
        if one is two or one.different:
            return one
        if two.different:
            return two
        if (one, two) not in self._joined:
            self._joined[one, two] = self.of(zip(one.kinds, two.kinds, strict=True))
        return self._joined[one, two]
