"""Questions over one small table: a schema, a query as a value, its SQL and its English.

The query is built first as a `Query`; SQL and question are two readings of it. A test reads it a
third way, in plain Python over rows, and compares that with what SQLite says.
"""

import random
import sqlite3
from dataclasses import dataclass

from .settings import words

TABLES = words(
    "orders players books cars students cities movies flights products employees songs plants "
    "houses animals games visits tickets phones"
)
TEXTS: dict[str, tuple[str, ...]] = {
    "name": ("Ann", "Tom", "Mia", "Ben", "Zoe", "Sam"),
    "city": ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo"),
    "color": ("red", "blue", "green", "black", "white"),
    "kind": ("small", "large", "fast", "old", "rare"),
    "team": ("Lions", "Bears", "Hawks", "Sharks"),
    "country": ("Spain", "Kenya", "Japan", "Peru", "India"),
    "item": ("lamp", "chair", "desk", "shirt", "cup"),
    "status": ("open", "closed", "new", "late"),
}
NUMBERS = words("price quantity age score weight year stock points distance salary pages rating")
AGGREGATES = {
    "SUM": ("What is the total {c} of {r}?", "What is the sum of {c} over {r}?"),
    "AVG": ("What is the average {c} of {r}?", "What is the mean {c} of {r}?"),
    "MAX": ("What is the highest {c} of {r}?", "What is the maximum {c} of {r}?"),
    "MIN": ("What is the lowest {c} of {r}?", "What is the minimum {c} of {r}?"),
}
COMPARE = {
    ">": ("above", "greater than", "more than"),
    "<": ("below", "less than"),
    ">=": ("of at least",),
    "<=": ("of at most",),
}
VOWELS = "aeiou"


@dataclass(frozen=True)
class Table:
    name: str
    texts: tuple[str, ...]
    numbers: tuple[str, ...]

    @property
    def columns(self) -> dict[str, str]:
        """Column names with their SQL types, `id` first."""
        return {
            "id": "INTEGER",
            **dict.fromkeys(self.texts, "TEXT"),
            **dict.fromkeys(self.numbers, "INTEGER"),
        }

    def create(self) -> str:
        """`CREATE TABLE orders (id INTEGER, city TEXT, price INTEGER)`"""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return f"CREATE TABLE {self.name} ({columns})"

    def short(self) -> str:
        """`Table orders(id, city, price)`"""
        return f"Table {self.name}({', '.join(self.columns)})"


Condition = tuple[str, str, str | int]


@dataclass(frozen=True)
class Query:
    """One SELECT: the column, what is done with it, and over which rows."""

    table: Table
    column: str
    """The column selected; for `COUNT`, `*`."""
    aggregate: str = ""
    where: tuple[Condition, ...] = ()
    group: str = ""
    order: str = ""
    descending: bool = False
    limit: int = 0

    @property
    def key(self) -> str:
        """The query and its table: what may not occur in two splits."""
        return f"{self.table.create()}; {self.sql()}"

    @property
    def scalar(self) -> bool:
        """Is the result a single value?"""
        return not self.group and (bool(self.aggregate) or self.limit == 1)

    def sql(self) -> str:
        what = f"{self.aggregate}({self.column})" if self.aggregate else self.column
        if self.group:
            what = f"{self.group}, {what}"
        text = f"SELECT {what} FROM {self.table.name}"
        if self.where:
            text += " WHERE " + " AND ".join(f"{c} {op} {literal(v)}" for c, op, v in self.where)
        if self.group:
            text += f" GROUP BY {self.group}"
        if self.order:
            text += f" ORDER BY {self.order} {'DESC' if self.descending else 'ASC'}"
        return text + (f" LIMIT {self.limit}" if self.limit else "")


def literal(value: str | int) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def make_table(rng: random.Random) -> Table:
    texts = rng.sample(list(TEXTS), rng.randint(1, 3))
    return Table(rng.choice(TABLES), tuple(texts), tuple(rng.sample(NUMBERS, rng.randint(1, 3))))


def word(rng: random.Random, column: str) -> str:
    """A value for a text column: a usual one, or a word nobody has seen, to be copied."""
    if rng.random() < 0.75:
        return rng.choice(TEXTS[column])
    made = (rng.choice("bdfgklmnprstvz") + rng.choice(VOWELS) for _ in range(rng.randint(2, 3)))
    return "".join(made).capitalize()


def make_query(rng: random.Random, scalar: bool = False) -> tuple[Query, str]:
    """A query and the question that asks for it."""
    table = make_table(rng)
    where, rows = make_where(rng, table)
    kinds = ("count", "aggregate", "top") if scalar else ("count", "aggregate", "top", "list",
                                                         "group")  # fmt: skip
    kind = rng.choice(kinds)
    if kind == "count":
        question = rng.choice(("How many {r} are there?", "Count the {r}."))
        return Query(table, "*", "COUNT", where), question.format(r=rows)
    if kind == "list":
        column = rng.choice(table.texts + table.numbers)
        question = rng.choice(("List the {c} of {r}.", "Show the {c} of all {r}."))
        return Query(table, column, "", where), question.format(c=column, r=rows)
    if kind == "top":
        return make_top(rng, table, scalar)
    if kind == "group":
        return make_group(rng, table)
    aggregate, column = rng.choice(list(AGGREGATES)), rng.choice(table.numbers)
    question = rng.choice(AGGREGATES[aggregate]).format(c=column, r=rows)
    return Query(table, column, aggregate, where), question


def make_where(rng: random.Random, table: Table) -> tuple[tuple[Condition, ...], str]:
    """Up to two conditions, and the rows in words: `orders with city Paris and price above 20`."""
    where: list[Condition] = []
    phrases: list[str] = []
    for column in rng.sample(table.texts + table.numbers, rng.choice((0, 1, 1, 1, 2))):
        if column in table.texts:
            value = word(rng, column)
            where.append((column, "=", value))
            phrases.append(f"{column} {value}")
        else:
            operator, bound = rng.choice(list(COMPARE)), rng.randint(1, 500)
            where.append((column, operator, bound))
            phrases.append(f"{column} {rng.choice(COMPARE[operator])} {bound}")
    link = rng.choice((" with ", " that have "))
    return tuple(where), table.name + (link + " and ".join(phrases) if phrases else "")


def make_top(rng: random.Random, table: Table, scalar: bool) -> tuple[Query, str]:
    column, order = rng.choice(table.texts), rng.choice(table.numbers)
    down = rng.random() < 0.5
    limit = 1 if scalar or rng.random() < 0.5 else rng.randint(2, 9)
    rank = "highest" if down else "lowest"
    question = f"Which {column} has the {rank} {order} in {table.name}?"
    if limit > 1:
        question = f"List the {column} of the {limit} {table.name} with the {rank} {order}."
    return Query(table, column, order=order, descending=down, limit=limit), question


def make_group(rng: random.Random, table: Table) -> tuple[Query, str]:
    group = rng.choice(table.texts)
    if rng.random() < 0.5:
        question = f"How many {table.name} are there for each {group}?"
        return Query(table, "*", "COUNT", group=group), question
    aggregate, column = rng.choice(list(AGGREGATES)), rng.choice(table.numbers)
    asked = rng.choice(AGGREGATES[aggregate]).format(c=column, r=f"{table.name} for each {group}")
    return Query(table, column, aggregate, group=group), asked


def make_rows(rng: random.Random, query: Query, count: int = 40) -> list[dict[str, str | int]]:
    """Rows for the query's table, in which the words of its conditions do occur."""
    pools = {column: list(TEXTS[column]) for column in query.table.texts}
    for column, _, value in query.where:
        if isinstance(value, str):
            pools[column] = [*pools[column][:2], value]
    return [
        {
            "id": at + 1,
            **{column: rng.choice(pools[column]) for column in query.table.texts},
            **{column: rng.randint(1, 600) for column in query.table.numbers},
        }
        for at in range(count)
    ]


def connect(rng: random.Random, query: Query) -> sqlite3.Connection:
    """An SQLite database in memory that holds the query's table, filled."""
    database = sqlite3.connect(":memory:")
    database.execute(query.table.create())
    rows = make_rows(rng, query)
    marks = ", ".join("?" for _ in rows[0])
    insert = f"INSERT INTO {query.table.name} VALUES ({marks})"
    database.executemany(insert, [tuple(row.values()) for row in rows])
    return database
