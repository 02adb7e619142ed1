"""The process that runs SQL which a model wrote. A script of its own: it imports nothing of ours.

Why a process: SQLite can be told to read only, to refuse functions and to stop after a time, but
not while one instruction runs (`instr` on two long texts takes seconds) nor while it prepares a
statement (sixteen CTEs that each name the last one twice take 0.4 s and 60 MB, twenty-four would
take the machine). Out here memory, temporary files and processor time are the kernel's to limit,
and what does not stop can be killed.

Reads one JSON request per line and answers each with one line: {"rows": [...]} or {"error": ...}.
"""

import json
import sqlite3
import sys
import time
from typing import Any

MEMORY = 512 * 2**20
TEMPORARY = 256 * 2**20
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2**20,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 64 * 1024,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
FORBIDDEN_FUNCTIONS = {
    "edit", "format", "fts3_tokenizer", "load_extension", "printf", "randomblob", "readfile",
    "writefile", "zeroblob",
}  # fmt: skip
OUT_OF_SPACE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}
STEPS_BETWEEN_CHECKS = 10_000


class Refused(Exception):
    """The query is not run, or not to its end; the text says why."""


def main(uri: str) -> None:
    limit_resources()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        limit_processor(request["seconds"])
        try:
            answer: dict[str, Any] = {"rows": query(uri, **request)}
        except Refused as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": f"it needs more than {MEMORY // 2**20} MiB of memory"}
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            answer = {"error": str(error)}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def query(uri: str, sql: str, seconds: float, rows: int, size: int) -> list[dict[str, Any]]:
    """Rows of one SELECT as objects; raises Refused, or what sqlite3 raises."""
    connection = sqlite3.connect(uri, uri=True, timeout=seconds, isolation_level=None)
    try:
        refusals: list[str] = []
        deadline = time.monotonic() + seconds
        guard(connection, refusals, deadline)
        try:
            cursor = connection.execute(sql)
            return collect(cursor, rows, size)
        except sqlite3.Error as error:
            if refusals:
                raise Refused(refusals[0]) from None
            if time.monotonic() > deadline:
                raise Refused(f"it took longer than {seconds:g} s") from None
            space = f" (it may use {TEMPORARY // 2**20} MiB of temporary space)"
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF in OUT_OF_SPACE
            raise Refused(f"{error}{space if full else ''}") from None
    finally:
        connection.close()


def guard(connection: sqlite3.Connection, refusals: list[str], deadline: float) -> None:
    """Let nothing but reading through, and nothing after the deadline."""

    def authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
        if action not in ACTIONS:
            refusals.append("only SELECT is allowed here")
        elif action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FORBIDDEN_FUNCTIONS:
            refusals.append(f"the function {second} is not allowed here")
        return sqlite3.SQLITE_DENY if refusals else sqlite3.SQLITE_OK

    connection.execute("PRAGMA trusted_schema = OFF")
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    for limit, value in LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_CHECKS)
    connection.set_authorizer(authorize)


def collect(cursor: sqlite3.Cursor, rows: int, size: int) -> list[dict[str, Any]]:
    if cursor.description is None:
        raise Refused("it is not a SELECT")
    names = distinct([column[0] for column in cursor.description])
    found: list[dict[str, Any]] = []
    for row in cursor:
        if len(found) == rows:
            raise Refused(f"it has more than {rows} rows: add a LIMIT, or let SQL count and sum")
        values = [value.hex() if isinstance(value, bytes) else value for value in row]
        size -= sum(len(value) if isinstance(value, str) else 8 for value in values)
        if size < 0:
            raise Refused("its rows are too long: select fewer or shorter columns")
        found.append(dict(zip(names, values, strict=True)))
    return found


def distinct(names: list[str]) -> list[str]:
    """Column names, with numbers added where two are the same: id, id_2."""
    seen: dict[str, None] = {}
    for name in names:
        unique, number = name, 2
        while unique in seen:
            unique, number = f"{name}_{number}", number + 1
        seen[unique] = None
    return list(seen)


def limit_resources() -> None:
    try:
        import resource
    except ImportError:  # not on Windows; what remains is SQLite's own limits and the kill
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (TEMPORARY, TEMPORARY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_processor(seconds: float) -> None:
    """So that a query ends even when nobody is left to kill this process."""
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, hard))


if __name__ == "__main__":
    main(sys.argv[1])
