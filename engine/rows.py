"""The rows of a batch: found whole and sound before anything runs, then read as they are needed.

A first pass over the file keeps ids only. It raises InputError for what makes the whole file wrong;
a single bad row stays a row, and is handed on as its error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..dag.errors import InputError, list_names
from ..dag.identity import row_id
from ..dag.nodes import Input
from .readers import JsonLines, Line, Parquet, Reader, Table
from .row import Item

FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
PROBE = 20
"""A file none of whose first lines can be read is no file of rows."""

Id = str | int


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one file. `items()` reads them, every time from the start."""

    path: Path
    sha256: str
    """Of the file's bytes."""
    lines: Mapping[Id, int]
    """The line of every row by its id, in the order of the file."""
    reader: Reader

    def __len__(self) -> int:
        return len(self.lines)

    def moved(self, path: Path) -> Rows:
        """The same rows, in a file that now lies elsewhere."""
        self.reader.path = path
        return replace(self, path=path)

    def items(self, without: Container[Id] = ()) -> Iterator[Item]:
        """The rows in order, without those whose ids are named."""
        for index, line in enumerate(islice(self.reader, len(self))):
            id = _identity(line, index)
            if id not in without:
                yield Item(id, index, line.row)

    def __iter__(self) -> Iterator[Mapping[str, Any] | None]:
        """The rows as plans are made from them: None for one that cannot be read."""
        return (i.content if isinstance(i.content, dict) else None for i in self.items())


def open_rows(
    path: Path, inputs: tuple[Input, ...] = (), *, limit: int | None = None, name: str | None = None
) -> Rows:
    """Go through a file of rows once and see that it can be run; at most `limit` of its rows.

    `name`: how messages call it. Raises InputError for a file that is not there or cannot be read,
    has no rows, is not of its format, lacks a column that the inputs need, or has one id twice.
    """
    name = name or str(path)
    format = _format(path)
    try:
        reader = _reader(path, name, format, inputs)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if not file.tell():
                raise InputError(f"{name} is empty: give it one row a line")
        lines = _pass(reader, name, inputs, limit)
    except OSError as error:
        raise _unreadable(name, error) from error
    return Rows(path, sha256, lines, reader)


def find_rows(path: Path, ids: Set[Id]) -> dict[Id, dict[str, Any]]:
    """The columns of a few rows by their ids; rows that cannot be read are left out."""
    found: dict[Id, dict[str, Any]] = {}
    try:
        for index, line in enumerate(_reader(path, str(path), _format(path), ())):
            if isinstance(line.row, dict) and (id := row_id(line.row, index)) in ids:
                found[id] = line.row
                if len(found) == len(ids):
                    break
    except OSError as error:
        raise _unreadable(str(path), error) from error
    return found


def _format(path: Path) -> str:
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: rows are read from files that end in {known}; '-' is JSONL")
    return format


def _reader(path: Path, name: str, format: str, inputs: tuple[Input, ...]) -> Reader:
    path.stat()  # a file that is not there is said so before its format is looked at
    match format:
        case "csv":
            return Table(path, name, inputs)
        case "tsv":
            return Table(path, name, inputs, "\t")
        case "parquet":
            return Parquet(path, name)
    return JsonLines(path, name)


def _unreadable(name: str, error: OSError) -> InputError:
    match error:
        case FileNotFoundError():
            return InputError(f"there is no file {name}: give the rows with -i FILE, or -i -")
        case IsADirectoryError():
            return InputError(f"{name} is a directory: give the file of rows in it")
        case PermissionError():
            return InputError(f"{name} cannot be read: permission denied")
    return InputError(f"{name} cannot be read: {error.strerror or error}")


def _pass(reader: Reader, name: str, inputs: tuple[Input, ...], limit: int | None) -> dict[Id, int]:
    """Lines by id, having looked at every row."""
    header = reader.columns()
    if header is not None:
        _check_header(header, name)
        _check_columns(header, f"{name}: ", inputs)
    lines: dict[Id, int] = {}
    bad: list[Line] = []
    for index, line in enumerate(islice(reader, limit)):
        if len(bad) == index < PROBE:  # nothing could be read so far
            if isinstance(line.row, InputError):
                bad.append(line)
                if index == 0 and header is None and "not JSON:" in str(line.row):
                    _refuse_array(reader.path, name)
            elif header is None:
                _check_columns(list(line.row), f"{name}:{line.number}: ", inputs)
        id = _identity(line, index)
        if id in lines:
            raise _twice(name, id, lines[id], line, index)
        lines[id] = line.number
    if not lines:
        what = "has a header but no rows" if header else "has no rows"
        raise InputError(f"{name} {what}: give it at least one")
    if len(bad) == min(len(lines), PROBE):
        raise _not_rows(reader, name, bad[0], header is None)
    return lines


def _identity(line: Line, index: int) -> Id:
    """A row's own id, else its position; a row that cannot be read is known by its line."""
    return f"line {line.number}" if isinstance(line.row, InputError) else row_id(line.row, index)


def _twice(name: str, id: Id, first: int, line: Line, index: int) -> InputError:
    where = f"{name}:{line.number}"
    own = isinstance(line.row, dict) and "id" in line.row
    if own or isinstance(line.row, InputError):
        return InputError(f"{where}: id {id!r} is also on line {first}: give every row its own id")
    return InputError(
        f"{where}: the row has no id, and its position {index} is the id of line {first}: "
        "give every row an id, or none"
    )


def _check_header(header: list[str], name: str) -> None:
    twice = {c for c in header if header.count(c) > 1}
    if twice:
        raise InputError(f"{name}: the header has {list_names(sorted(twice))} more than once")


def _check_columns(have: list[str], where: str, inputs: tuple[Input, ...]) -> None:
    missing = [i.id for i in inputs if i.default is ... and i.id not in have]
    if missing:
        what = "column" if len(missing) == 1 else "columns"
        verb = "is" if len(missing) == 1 else "are"
        there = list_names(have) if have else "none"
        what = f"{what} {list_names(missing)} {verb} missing"
        raise InputError(f"{where}{what}: the file has {there}")


def _not_rows(reader: Reader, name: str, first: Line, jsonl: bool) -> InputError:
    """Nothing in the file could be read: say what it is rather than what one line is."""
    if jsonl:
        _refuse_array(reader.path, name)
    hint = "write one JSON object per line" if jsonl else "see that it is CSV in UTF-8"
    return InputError(f"{first.row} (no row of the file can be read: {hint})")


def _refuse_array(path: Path, name: str) -> None:
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        hint = f"write one object per line, for example with: jq -c '.[]' {name}"
        raise InputError(f"{name} is a JSON array, not JSONL: {hint}")
