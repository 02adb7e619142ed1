"""Numbers of columns against numbers given out row by row."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from plait.dag.nodes import Input
from plait.dag.numbering import Numbering
from plait.dag.numbers import Column
from plait.dag.partitions import Partitions

TEXTS = st.sampled_from(["a", "b", "c"])
INPUTS = (Input(id="one", type=str), Input(id="two", type=str), Input(id="three", type=str))


class Both:
    """Two ways to number the same columns: the one tested, and a number for every row's key."""

    def __init__(self) -> None:
        self.numbering = Numbering()
        self.plain: dict[Hashable, int] = defaultdict(count().__next__)
        self.columns: list[tuple[Column, list[int]]] = []

    def read(self, rows: Sequence[dict[str, str]]) -> None:
        found = self.numbering.read(INPUTS, rows)
        for node in INPUTS:
            self._add(found[node.id], [("value", row[node.id]) for row in rows])

    def fresh(self, rows: int) -> None:
        self._add(self.numbering.fresh_column(rows), [object() for _ in range(rows)])

    def picked(self, column: int, rows: Sequence[int]) -> None:
        """Some rows of a column, as the body of a map shows them."""
        numbers, plain = self.columns[column]
        self.columns.append(
            (array("i", [numbers[row] for row in rows]), [plain[row] for row in rows])
        )

    def combine(self, signature: str, arguments: Sequence[int | str], rows: int) -> None:
        """A text is a literal, a number one of the columns."""
        numbers: list[Column | int] = []
        plain: list[Sequence[int]] = []
        for one in arguments:
            if isinstance(one, str):
                numbers.append(self.numbering.value(one))
                plain.append([self.plain["value", one]] * rows)
            else:
                numbers.append(self.columns[one][0])
                plain.append(self.columns[one][1])
        keys = [(signature, *key) for key in zip(*plain, strict=True)]
        self._add(self.numbering.combine(signature, numbers, rows), keys)

    def _add(self, numbers: Column, keys: Sequence[Hashable]) -> None:
        self.columns.append((numbers, [self.plain[key] for key in keys]))


@settings(max_examples=300)
@given(st.data())
def test_equal_numbers_are_equal_keys(data: st.DataObject) -> None:
    both = Both()
    for _ in range(data.draw(st.integers(1, 3), "batches")):
        rows = data.draw(st.integers(0, 3), "rows")
        first = len(both.columns)
        # Columns that have values in common, and columns that have not.
        own = data.draw(st.booleans(), "own")
        row = st.fixed_dictionaries({node.id: TEXTS for node in INPUTS})
        read = data.draw(st.lists(row, min_size=rows, max_size=rows), "read")
        both.read([{k: k + v for k, v in r.items()} if own else r for r in read])
        for _ in range(data.draw(st.integers(2, 10), "steps")):
            column = st.integers(first, len(both.columns) - 1)
            step = data.draw(st.sampled_from(["fresh", "picked", *["combine"] * 5]), "step")
            if step == "fresh":
                both.fresh(rows)
            elif step == "picked":
                places = st.lists(st.integers(0, max(rows - 1, 0)), min_size=rows, max_size=rows)
                both.picked(data.draw(column), data.draw(places))
            else:
                literal = st.sampled_from(["a", "onea", "other"])
                arguments = st.lists(column | column | literal, min_size=1, max_size=2)
                both.combine("f", data.draw(arguments), rows)
    pairs = [pair for one, two in both.columns for pair in zip(one, two, strict=True)]
    assert len(set(pairs)) == len({one for one, _ in pairs}) == len({two for _, two in pairs})


def test_what_is_made_from_the_same_columns_is_one_column() -> None:
    numbering = Numbering()
    rows = [{"one": f"a{i}", "two": f"b{i % 2}", "three": "c"} for i in range(4)]
    columns = list(numbering.read(INPUTS, rows).values())
    made = numbering.combine("f", columns, 4)
    assert numbering.combine("f", columns, 4) is made
    assert numbering.combine("f", columns[1:], 4) is not made
    # The same rows once more, in a second workflow.
    assert list(numbering.read(INPUTS, rows).values()) == columns


def test_partitions_are_few_objects() -> None:
    partitions = Partitions()
    one, two = partitions.of("xxyy"), partitions.of("abab")
    assert list(one.kinds) == [0, 0, 1, 1] and one.count == 2 and not one.different
    both = partitions.join([one, two, one])
    assert both.different and both is partitions.join([two, one]) is partitions.of(range(4))
    assert partitions.join([one, partitions.of("pppp")]) is one is partitions.of([5, 5, 9, 9])


def read(numbering: Numbering, *texts: str) -> Column:
    return numbering.read(INPUTS[:1], [{"one": text} for text in texts])["one"]


def test_a_literal_is_the_value_of_a_row_wherever_it_stands() -> None:
    for column_first in (True, False):
        numbering = Numbering()
        column, other = read(numbering, "a", "b"), read(numbering, "c", "d")
        ways: list[Column | int] = [column, numbering.value("a")]
        ways = ways if column_first else ways[::-1]
        one, two = (numbering.combine("f", [way, other], 2) for way in ways)
        assert one[0] == two[0] and one[1] != two[1]


def test_a_number_is_made_in_one_row_as_in_many() -> None:
    numbering = Numbering()
    column, single = read(numbering, "a", "b"), numbering.combine_one("f", [numbering.value("a")])
    made = numbering.combine("f", [column], 2)
    assert made[0] == single != made[1]
    assert numbering.combine_one("f", [numbering.value("b")]) == made[1]


def test_columns_that_share_some_values_share_what_is_made_of_them() -> None:
    numbering = Numbering()
    columns = [read(numbering, "a", "b"), read(numbering, "c", "a"), read(numbering, "c", "d")]
    one, two, three = (numbering.combine("f", [column], 2) for column in columns)
    assert one[0] == two[1] and two[0] == three[0] and len({*one, *two, *three}) == 4


def test_columns_of_one_batch_that_share_some_values_do_so_too() -> None:
    numbering = Numbering()
    rows = [{"one": "a", "two": "b"}, {"one": "c", "two": "a"}]
    one, two = (numbering.combine("f", [c], 2) for c in numbering.read(INPUTS[:2], rows).values())
    assert one[0] == two[1] and len({*one, *two}) == 3
