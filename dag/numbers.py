"""Numbers that stand for values: known ones, and those made from other numbers.

Equal numbers are certain to be equal values. A value that cannot be compared gets a number of its
own, which nothing else has.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import count, repeat
from typing import Any, TypeAlias

from .keys import Unkeyed, type_key, value_key

Column: TypeAlias = "array[int]"
"""Numbers by row."""


class Numbers:
    """Gives out numbers: what has one value has one of them."""

    def __init__(self) -> None:
        self.fresh = fresh = count().__next__
        """A number nothing else has."""
        # A missing key gets a fresh number without a line of Python: planning is mostly this.
        self._tables: dict[Hashable, dict[Any, int]] = defaultdict(lambda: defaultdict(fresh))
        self._texts: dict[str, int] = {}
        self.values: dict[int, Any] = {}
        """Values that are known before running, by number."""

    def fresh_column(self, rows: int) -> Column:
        return array("i", (self.fresh() for _ in range(rows)))

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
        table = self._tables["value", tag]
        if key not in table:
            self.values[table[key]] = value
        return table[key]

    def given(self, value: Any, kind: Any) -> int:
        """The number of a value that will be read as a type."""
        if type(value) is kind or kind is Any:
            return self.value(value)
        return self.value(value, type_key(kind))

    def combine(self, signature: Hashable, columns: Iterable[Column | int], rows: int) -> Column:
        """A number per row for work with this signature and these arguments."""
        columns = list(columns)
        if all(isinstance(c, int) for c in columns):
            return array("i", repeat(self.combine_one(signature, tuple(columns)), rows))
        endless = (repeat(c) if isinstance(c, int) else c for c in columns)
        return array("i", map(self._tables[signature].__getitem__, zip(*endless, strict=False)))

    def behind(self, vertex: int, prefix: Column | None, values: Column | int, rows: int) -> Column:
        """The numbers of prefixes that go on with these values; None goes before the first."""
        table = self._tables["prefix", vertex]
        if prefix is None:  # all alike: values alone tell what comes behind apart
            if isinstance(values, int):
                return array("i", repeat(table[values], rows))
            return array("i", map(table.__getitem__, values))
        return self.combine(("prefix", vertex), (prefix, values), rows)

    def combine_one(self, signature: Hashable, key: Hashable) -> int:
        return self._tables[signature][key]
