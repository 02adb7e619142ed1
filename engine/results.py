"""Results on disk, a line for every row as it finishes.

`out.jsonl` in the run's directory is the record: appended to, synced to disk at least every half a
second, read again by a resumed run. A copy may be written elsewhere, in the input's order if asked.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from ..dag.errors import InputError
from .row import Row

Id = str | int


class Sink(Protocol):
    """An unbuffered file to write to."""

    def write(self, data: memoryview, /) -> int | None: ...

    def close(self) -> None: ...


class Found(NamedTuple):
    """A row that stands in a results file."""

    offset: int
    size: int
    row: dict[str, Any]


def read_results(path: Path) -> Iterator[Found]:
    """The rows of a results file. An end torn off by a crash is left out.

    Raises InputError for a line that is no result and is not the end.
    """
    bad: int | None = None
    offset = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            row = _parse(raw)
            if row is None:
                bad = bad or number
            elif bad is not None:
                raise InputError(f"{path}:{bad} is not a result: mend the line or remove it")
            else:
                yield Found(offset, len(raw), row)
            offset += len(raw)


def _parse(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        row = json.loads(raw)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "id" in row and "status" in row else None


def encode(row: Row) -> bytes:
    """A row as a line of a results file."""
    fields = row.as_json()
    try:
        return (json.dumps(fields, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can say and UTF-8 cannot
        return (json.dumps(fields) + "\n").encode()


class Results:
    """The record of a run, open for appending, and the copy made of it.

    `lock` is a file descriptor that is closed with the record.
    """

    def __init__(self, path: Path, copy: Copy | None = None, lock: int | None = None) -> None:
        self._copy, self._lock = copy, lock
        self._file = path.open("ab+", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)
        self._dirty = False
        self._syncing = threading.RLock()

    def write(self, row: Row) -> None:
        line = encode(row)
        _write(self._file, line)
        self._dirty = True
        if self._copy is not None:
            self._copy.add(row.index, self._end, line)
        self._end += len(line)

    def sync(self) -> None:
        """Put on disk what is written so far. Another thread may call it."""
        with self._syncing:
            if self._dirty and not self._file.closed:
                self._dirty = False  # first: what is written meanwhile may not be on disk
                try:
                    os.fsync(self._file.fileno())
                except OSError:
                    self._dirty = True
                    raise

    def close(self) -> None:
        with self._syncing:  # another thread may be about to put it on disk
            if not self._file.closed:
                try:
                    self.sync()
                    if self._copy is not None:
                        self._copy.close()
                finally:
                    self._file.close()
                    if self._lock is not None:
                        os.close(self._lock)

    @property
    def waits(self) -> bool:
        """Whether a write may last until somebody reads what was written before."""
        return self._copy is not None and self._copy.waits

    @property
    def copied(self) -> bool:
        return self._copy is not None


def _write(file: Sink, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


class Copy:
    """The same lines in a file of the user's, or on standard output, as they come.

    The file is unbuffered, so that nothing is left in it to write when a write has failed. `waits`
    says that it is a pipe or a terminal, where a write lasts until somebody reads.
    """

    def __init__(self, file: Sink, waits: bool = False) -> None:
        self._file, self.waits = file, waits

    def add(self, index: int, offset: int, line: bytes) -> None:
        """Take the line of row `index`, which stands at `offset` in the record."""
        _write(self._file, line)

    def close(self) -> None:
        self._file.close()


class OrderedCopy(Copy):
    """The same lines in the order of the input.

    Lines that came early are not kept in memory but read from the record when it is their turn.
    """

    def __init__(self, file: Sink, record: Path, waits: bool = False) -> None:
        super().__init__(file, waits)
        self._record = record
        self._early: dict[int, tuple[int, int]] = {}
        self._next = 0

    def add(self, index: int, offset: int, line: bytes) -> None:
        if index != self._next:
            self._early[index] = (offset, len(line))
            return
        _write(self._file, line)
        self._next += 1
        if self._early:
            with self._record.open("rb") as record:
                while self._next in self._early:
                    self._take(record, self._next)
                    self._next += 1

    def _take(self, record: BinaryIO, index: int) -> None:
        offset, size = self._early.pop(index)
        record.seek(offset)
        _write(self._file, record.read(size))

    def close(self) -> None:
        """Write what is left, with gaps where rows are missing."""
        with self._record.open("rb") as record:
            for index in sorted(self._early):
                self._take(record, index)
        super().close()


def mend(path: Path, drop_errors: bool = False) -> dict[Id, str]:
    """Make a record ready to go on: cut off a torn end. The status of every row in it, by id.

    With `drop_errors` the failed rows are taken out, so that they run again.
    """
    if not path.exists():
        return {}
    found, end = {}, 0
    for at in read_results(path):
        found[at.row["id"]] = at.row["status"]
        end = at.offset + at.size
    if end < path.stat().st_size:
        with path.open("rb+") as file:
            file.truncate(end)
    if drop_errors and any(status != "ok" for status in found.values()):
        kept = (at for at in read_results(path) if at.row["status"] == "ok")
        _rewrite(path, [(at.offset, at.size) for at in kept])
        return {id: status for id, status in found.items() if status == "ok"}
    return found


def reorder(path: Path, order: Mapping[Id, int]) -> None:
    """Put the lines of a record into the order of the input."""
    last = len(order)
    places = [(order.get(at.row["id"], last), at.offset, at.size) for at in read_results(path)]
    if places != sorted(places):
        _rewrite(path, [(offset, size) for _, offset, size in sorted(places)])


def _rewrite(path: Path, places: list[tuple[int, int]]) -> None:
    """Replace a file by these pieces of it, all or nothing."""
    fresh = path.with_name(f".{path.name}.new")
    with path.open("rb") as old, fresh.open("wb") as new:
        for offset, size in places:
            old.seek(offset)
            new.write(old.read(size))
        new.flush()
        os.fsync(new.fileno())
    fresh.replace(path)
