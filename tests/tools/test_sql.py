"""`sqlite_tool` on a real file: what it answers, and what it survives."""

import asyncio
import gc
import inspect
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from plait import InputError, OutputError, ToolError, WorkflowError
from plait.tools import sqlite_tool
from plait.tools.runner import run_tool
from plait.tools.sql import schema_of
from plait.tools.tool import Tool

Sql = Tool[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("db") / "a b?c#d%20.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT, people INTEGER);
        CREATE TABLE visit (city INTEGER REFERENCES city, day TEXT, photo BLOB);
        CREATE VIEW big AS SELECT name FROM city WHERE people > 1000000;
        INSERT INTO city VALUES (1, 'Bern', 134000), (2, 'Wien', 1900000), (3, 'Köln', 1080000);
        INSERT INTO visit VALUES (1, '2024-01-02', x'00ff'), (2, '2024-01-03', NULL);
        """
    )
    connection.close()
    return path


@pytest.fixture(scope="module")
def sql(path: Path) -> Sql:
    return sqlite_tool(path, max_rows=100, max_seconds=0.4)


def test_rows_are_objects(sql: Sql) -> None:
    assert sql("SELECT name, people FROM city ORDER BY people") == [
        {"name": "Bern", "people": 134000},
        {"name": "Köln", "people": 1080000},
        {"name": "Wien", "people": 1900000},
    ]
    assert sql("SELECT name FROM big WHERE name LIKE 'W%';") == [{"name": "Wien"}]
    assert sql("SELECT 1 WHERE 0") == []


def test_blobs_are_hex_and_equal_names_are_numbered(sql: Sql) -> None:
    found = sql("SELECT photo, city.id, visit.city AS id FROM visit JOIN city ON city = id LIMIT 1")
    assert found == [{"photo": "00ff", "id": 1, "id_2": 1}]


def test_recursive_queries_that_end_are_allowed(sql: Sql) -> None:
    counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
    assert sql(f"{counted} SELECT sum(i) AS total FROM n") == [{"total": 1275}]


async def test_it_is_a_read_tool_with_a_schema(sql: Sql) -> None:
    assert (sql.name, sql.effect) == ("sql", "read")
    assert sql.spec.parameters["required"] == ["query"]
    rows = await run_tool(sql, {"query": "SELECT count(*) AS n FROM city"}, node="n")
    assert rows == [{"n": 3}]
    with pytest.raises(ToolError, match="^the query failed: no such table: town$") as caught:
        await run_tool(sql, {"query": "SELECT * FROM town"}, node="ask")
    assert caught.value.node == "ask"
    with pytest.raises(OutputError):
        await run_tool(sql, {"query": "SELECT 9e999"}, node="n")


async def test_many_queries_at_once(sql: Sql) -> None:
    calls = [run_tool(sql, {"query": f"SELECT {n} AS n"}, node="n") for n in range(40)]
    assert await asyncio.gather(*calls) == [[{"n": n}] for n in range(40)]


def test_the_schema_as_sql(path: Path) -> None:
    lines = schema_of(path).splitlines()
    assert lines[0] == "CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT, people INTEGER);"
    assert [line.split()[2] for line in lines] == ["city", "visit", "big"]


# -- attacks -----------------------------------------------------------------------------------

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
LONG = (
    "WITH RECURSIVE t(s, n) AS "
    "(SELECT 'aaaaaaaa', 1 UNION ALL SELECT s || s, n + 1 FROM t WHERE n < {n})"
)
CTES = ", ".join(f"t{n}(x) AS (SELECT a.x FROM t{n - 1} a, t{n - 1} b)" for n in range(1, 40))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ATTACH '/tmp/other.db' AS other", "only SELECT"),
        ("PRAGMA table_info(city)", "only SELECT"),
        ("SELECT * FROM pragma_table_info('city')", "only SELECT|not authorized"),
        ("PRAGMA writable_schema = ON", "only SELECT"),
        ("VACUUM INTO '/tmp/stolen.db'", "only SELECT"),
        ("DELETE FROM city", "only SELECT"),
        ("INSERT INTO city VALUES (9, 'x', 1) RETURNING *", "only SELECT"),
        ("CREATE TEMP TABLE t (x)", "only SELECT"),
        ("BEGIN", "only SELECT"),
        ("REINDEX", "only SELECT|not a SELECT"),
        ("SELECT load_extension('x')", "function load_extension is not allowed"),
        ("SELECT PRINTF('%.*c', 900000000, 'x')", "(?i)function printf is not allowed"),
        ("SELECT format('%d', 1)", "function format is not allowed"),
        ("SELECT zeroblob(900000000)", "function zeroblob is not allowed"),
        ("SELECT hex(randomblob(9))", "function randomblob is not allowed"),
        ("SELECT 1; DELETE FROM city", "one statement"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "not a SELECT"),
        ("-- nothing", "not a SELECT"),
        ("SELEC 1", "syntax error"),
        ("SELECT '\0'", "null character|unrecognized token"),
        ("SELECT '" + "x" * 70_000 + "'", "too large|too big"),
        (f"{COUNT} SELECT sum(i) FROM n", r"took longer than 0\.4 s"),
        (f"{COUNT} SELECT i FROM n", "more than 100 rows"),
        ("SELECT count(*) FROM (" + f"{COUNT} SELECT * FROM n) a, city b", "took longer"),
        (f"{COUNT} SELECT count(*) FROM (SELECT DISTINCT i, hex(i) || '{'y' * 9_000}' FROM n)",
         "took longer|temporary space"),
        (LONG.format(n=19) + " SELECT s FROM t", "too big"),
        (LONG.format(n=17) + ", m(s) AS (SELECT s FROM t WHERE n = 17)"
         " SELECT instr(s || substr(s, 1, 500000), s || 'b') FROM m", "took longer|processor"),
        (f"WITH t0(x) AS (SELECT 1), {CTES} SELECT x FROM t39", "memory|took longer|processor"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)  # fmt: skip
def test_attacks(path: Path, sql: Sql, query: str, message: str) -> None:
    before = path.read_bytes()
    begun = time.monotonic()
    with pytest.raises(ToolError, match=message):
        sql(query)
    assert time.monotonic() - begun < 10
    assert path.read_bytes() == before
    assert sql("SELECT count(*) AS n FROM city") == [{"n": 3}]


def test_long_rows_are_refused_before_they_fill_memory(path: Path) -> None:
    sql = sqlite_tool(path, max_seconds=20)
    some = COUNT.replace("FROM n)", "FROM n WHERE i < 900)")
    long = f"SELECT replace(hex('{'x' * 25_000}'), '7', 'abcdefgh') AS s"
    with pytest.raises(ToolError, match="rows are too long"):
        sql(f"{some} SELECT s FROM n, ({long})")


def test_what_is_wrong_when_the_tool_is_made(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no SQLite file at"):
        sqlite_tool(tmp_path / "missing.db")
    with pytest.raises(WorkflowError, match=r"test_sql.py:\d+: .* out of range \(give"):
        sqlite_tool(path, max_rows=0)
    text = tmp_path / "text.db"
    text.write_text("hello " * 200)
    with pytest.raises(ToolError, match="not a database"):
        sqlite_tool(text)("SELECT 1 FROM sqlite_master")
    with pytest.raises(InputError, match="text.db' cannot be read: .* not a database"):
        schema_of(text)


def test_a_process_that_died_is_replaced(path: Path) -> None:
    sql = sqlite_tool(path)
    pids = []
    for _ in range(2):
        with pytest.raises(ToolError, match="no such function"):
            sql("SELECT pid()")
        workers = inspect.getclosurevars(sql.fn).nonlocals["workers"]
        (worker,) = workers._idle
        pids.append(worker.process.pid)
        worker.process.kill()
        worker.process.wait()
    assert pids[0] != pids[1]


def test_processes_end_with_their_tool(path: Path) -> None:
    sql = sqlite_tool(path)
    assert sql("SELECT 1 AS one") == [{"one": 1}]
    workers = inspect.getclosurevars(sql.fn).nonlocals["workers"]
    process = workers._idle[0].process
    assert os.getpgid(process.pid) != os.getpgid(0), "Ctrl-C would end it at once"
    del sql, workers
    gc.collect()
    assert process.returncode is not None
