"""Numbers that stand for values: known ones, and those made from other numbers.

Equal numbers are certain to be equal values. A value that cannot be compared gets a number of its
own, which nothing else has.

Most columns are blocks: no other block has any of their numbers. What is made from blocks is known
without a look at the rows. It is what has been made from the same blocks before, or else a block
itself, in which rows are alike that are so in all it is made from.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice, repeat
from typing import Any

from .keys import Unkeyed, type_key, value_key
from .partitions import Column, Partition, Partitions

__all__ = ["Column", "Numbers"]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A column, and which of its rows are alike."""

    column: Column
    partition: Partition


class _Table:
    """What work with one signature makes, by the numbers of its arguments.

    While all columns that came were blocks, they are noted as a whole: calls that differ in a block
    differ in every row. From the first other column on, rows are compared.
    """

    __slots__ = ("_blocks", "rows", "whole")

    def __init__(self, fresh: Callable[[], int]) -> None:
        # A missing key gets a fresh number without a line of Python.
        self.rows: dict[Any, int] = defaultdict(fresh)
        self.whole = True
        self._blocks: dict[tuple[int, ...], tuple[Sequence[Column | int], Column]] = {}

    def get(self, columns: Sequence[Column | int]) -> Column | None:
        found = self._blocks.get(_firsts(columns))
        return found[1] if found is not None else None

    def put(self, columns: Sequence[Column | int], made: Column) -> None:
        self._blocks[_firsts(columns)] = columns, made

    def compare_rows(self) -> None:
        """From now on."""
        for columns, made in self._blocks.values():
            self.rows.update(zip(_by_row(columns), made, strict=False))
        self._blocks, self.whole = {}, False


class Numbers:
    """Gives out numbers: what has one value has one of them."""

    def __init__(self) -> None:
        self._free = count()
        self.fresh = fresh = self._free.__next__
        """A number nothing else has."""
        self._tables: dict[Hashable, _Table] = defaultdict(lambda: _Table(fresh))
        self._keys: dict[Hashable, dict[Hashable, int]] = defaultdict(lambda: defaultdict(fresh))
        self._texts: dict[str, int] = {}
        self.values: dict[int, Any] = {}
        """Values that are known before running, by number."""
        self._partitions = Partitions()
        self._blocks: dict[int, _Block] = {}
        """By their first number."""
        self._starts: list[int] = []
        self._stops: list[int] = []
        """Ranges that hold the numbers of all blocks, ascending."""

    def fresh_column(self, rows: int) -> Column:
        return self._block(self._partitions.of(range(rows))) if rows else array("i")

    def value(self, value: Any, tag: Hashable = None) -> int:
        """The number of a known value; `tag` tells apart values that conversion will."""
        if type(value) is str and tag is None:
            number = self._texts.get(value)
            if number is None:
                number = self._texts[value] = self.fresh()
                self.values[number] = value
            return number
        try:
            key = value_key(value)
        except Unkeyed:
            return self.fresh()
        table = self._keys["value", tag]
        if key not in table:
            self.values[table[key]] = value
        return table[key]

    def given(self, value: Any, kind: Any) -> int:
        """The number of a value that will be read as a type."""
        if type(value) is kind or kind is Any:
            return self.value(value)
        return self.value(value, type_key(kind))

    def keyed(self, what: str, key: Hashable) -> int:
        """The number of what is told apart by a key alone."""
        return self._keys[what][key]

    def combine(self, signature: Hashable, columns: Iterable[Column | int], rows: int) -> Column:
        """A number per row for work with this signature and these arguments."""
        columns = list(columns)
        table = self._tables[signature]
        since = self.fresh()
        ints = [c for c in columns if isinstance(c, int)]
        if len(ints) == len(columns):
            return self.settled(array("i", repeat(self.combine_one(signature, ints), rows)), since)
        blocks = [self._block_of(c) for c in columns if not isinstance(c, int)]
        if table.whole and all(blocks) and all(map(self._loose, ints)):
            found = table.get(columns)
            if found is None:
                found = self._block(self._partitions.join(b.partition for b in blocks if b))
                table.put(columns, found)
            return found
        if table.whole:
            table.compare_rows()
        return self.settled(array("i", map(table.rows.__getitem__, _by_row(columns))), since)

    def combine_one(self, signature: Hashable, numbers: Sequence[int]) -> int:
        """The same for one row."""
        table = self._tables[signature]
        if table.whole and not all(map(self._loose, numbers)):
            table.compare_rows()
        return table.rows[tuple(numbers)]

    def behind(self, vertex: int, prefix: Column | None, values: Column | int, rows: int) -> Column:
        """The numbers of prefixes that go on with these values; None goes before the first."""
        return self.combine(
            ("prefix", vertex), (values,) if prefix is None else (prefix, values), rows
        )

    # -- blocks --------------------------------------------------------------------------------

    def settled(self, column: Column, since: int) -> Column:
        """A column that holds none but these numbers, as a block if all of them are newer than
        `since`; a block that equals it in its place."""
        if not column:
            return column
        known = self._blocks.get(column[0])
        if known is not None:
            return known.column if known.column == column else column
        if min(column) > since:
            self._blocks[column[0]] = _Block(column, self._partitions.of(column))
            self._cover(since, self.fresh())
        return column

    def _block(self, partition: Partition) -> Column:
        """A new block in which rows of one kind are alike."""
        numbers = column = array("i", islice(self._free, partition.count))
        if not partition.different:
            column = array("i", map(numbers.__getitem__, partition.kinds))
        self._blocks[numbers[0]] = _Block(column, partition)
        self._cover(numbers[0], numbers[-1] + 1)
        return column

    def _cover(self, start: int, stop: int) -> None:
        self._starts.append(start)
        self._stops.append(stop)

    def _block_of(self, column: Column) -> _Block | None:
        """What is known of a column; None if it is no block."""
        found = self._blocks.get(column[0]) if column else None
        return found if found is not None and found.column is column else None

    def _loose(self, number: int) -> bool:
        """Whether a number is surely in no block."""
        place = bisect_right(self._starts, number) - 1
        return place < 0 or number >= self._stops[place]


def _by_row(columns: Iterable[Column | int]) -> Iterable[tuple[int, ...]]:
    """The numbers of every row; an int stands for one in all rows. One column at least has them."""
    return zip(*(repeat(c) if isinstance(c, int) else c for c in columns), strict=False)


def _firsts(columns: Iterable[Column | int]) -> tuple[int, ...]:
    return tuple(c if isinstance(c, int) else c[0] for c in columns)
