"""`sqlite_tool`: a tool that answers SQL SELECTs on a SQLite file, for text that a model wrote.

The query runs in a separate process (`sql_worker`, where the limits are), which is kept for the
next query and killed when it does not answer in time.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

from ..dag.errors import InputError, ToolError, WorkflowError
from ..dag.source import caller, problem_at
from .tool import MAX_OUTPUT, Tool, tool

WORKER = Path(__file__).with_name("sql_worker.py")
MAX_WORKERS = 4
KILL_AFTER = 1.0
"""Seconds past its time until a process that does not stop by itself is killed."""
START = 10.0
"""Seconds a new process has in addition, to start on a busy machine."""


def sqlite_tool(
    path: str | os.PathLike[str], *, name: str = "sql", max_rows: int = 1_000,
    max_seconds: float = 5.0,
) -> Tool[[str], list[dict[str, Any]]]:  # fmt: skip
    """A read-only tool that runs one SQL SELECT on a SQLite file and returns its rows.

    A query with more than `max_rows` rows, or that takes longer than `max_seconds`, is an error
    that says so. Raises InputError when there is no such file.
    """
    if not 1 <= max_rows <= 1_000_000 or not 0 < max_seconds <= 3_600:
        message = f"max_rows={max_rows}, max_seconds={max_seconds} are out of range"
        hint = "give 1 to 1000000 rows, above 0 to 3600 s"
        raise WorkflowError(problem_at(caller(), message, hint))
    workers = _Workers(_uri(path))
    limits = {"seconds": max_seconds, "rows": max_rows, "size": MAX_OUTPUT}

    @tool(effect="read", name=name, timeout=max(60.0, 20 * max_seconds))
    def run_query(query: str) -> list[dict[str, Any]]:
        """Run one SQL SELECT statement on the database and return its rows."""
        return workers.ask({"sql": query, **limits})

    return run_query


def schema_of(path: str | os.PathLike[str]) -> str:
    """The tables and views of a SQLite file as SQL, for a prompt; raises InputError."""
    import sqlite3

    sql = (
        "SELECT sql FROM sqlite_master WHERE type IN ('table', 'view') AND sql IS NOT NULL"
        " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY rowid"
    )
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
            return "\n".join(f"{row[0]};" for row in connection.execute(sql))
    except sqlite3.Error as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read: {error}") from error


def _uri(path: str | os.PathLike[str]) -> str:
    file = Path(path).absolute()
    if not file.is_file():
        raise InputError(f"there is no SQLite file at {os.fspath(path)!r}")
    return f"{file.as_uri()}?mode=ro"


class _Workers:
    """Processes that run queries on one file: at most a few, kept between queries."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(MAX_WORKERS)
        weakref.finalize(self, _stop_all, self._idle)

    def ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows; raises ToolError with what the worker says, or when it had to be killed."""
        with self._slots:
            worker = self._take() or _Worker(self._uri)
            try:
                answer = worker.ask(request)
            except BaseException:
                worker.stop()
                raise
            with self._lock:
                self._idle.append(worker)
        if "error" in answer:
            raise ToolError(f"the query failed: {answer['error']}")
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    def _take(self) -> _Worker | None:
        """An idle process that is still alive."""
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.stop()
        return None


class _Worker:
    """One process and its two pipes."""

    def __init__(self, uri: str) -> None:
        # -I -S: nothing from the environment or site-packages, which also makes it start quickly;
        # a session of its own: Ctrl-C in a terminal lets queries under way finish
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WORKER), uri],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={},
            start_new_session=True,
        )  # fmt: skip
        self.patience = START

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        seconds = request["seconds"]
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise ToolError(
                "the process that runs queries has died; the next starts anew"
            ) from None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(seconds + KILL_AFTER + self.patience):
                raise ToolError(f"the query failed: it took longer than {seconds:g} s")
        self.patience = 0.0
        line = stdout.readline()
        if not line:
            raise ToolError("the query failed: it was stopped for its use of processor or memory")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def _stop_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()
