"""Files of rows, read one row at a time: JSONL, CSV and Parquet.

A reader yields every row with the line it stands on. What is wrong with one row takes its place as
an InputError, so that the others go on; what makes the whole file unreadable is raised.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, Protocol

from ..dag.errors import InputError, first_line
from ..dag.nodes import Input

MAX_LINE = 64 * 2**20
"""Bytes of the longest line that is read."""
_BOM = b"\xef\xbb\xbf"
_CHUNK = 2**20


class Line(NamedTuple):
    """One row of a file."""

    number: int
    """Line of the file it begins on, from 1; in Parquet the number of the row."""
    row: dict[str, Any] | InputError


class Reader(Protocol):
    """Reads one file; every iteration begins at its start."""

    path: Path

    def columns(self) -> list[str] | None:
        """Names of the columns when the file says them ahead of its rows."""
        ...

    def __iter__(self) -> Iterator[Line]: ...


class JsonLines:
    """One JSON object a line. Empty lines are no rows."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def columns(self) -> None:
        return None

    def __iter__(self) -> Iterator[Line]:
        with self.path.open("rb") as file:
            for number, raw in enumerate(_lines(file), 1):
                if raw is None:
                    too_long = f"longer than {MAX_LINE // 2**20} MB"
                    yield Line(number, InputError(f"{self.name}:{number}: the line is {too_long}"))
                elif raw.strip():
                    yield Line(number, self._parse(number, raw))

    def _parse(self, number: int, raw: bytes) -> dict[str, Any] | InputError:
        where = f"{self.name}:{number}"
        try:
            value = json.loads(raw.decode(), parse_constant=_refuse, parse_float=_finite)
        except UnicodeDecodeError as error:
            return InputError(f"{where}: not UTF-8: byte {error.start + 1} of the line cannot be")
        except json.JSONDecodeError as error:
            return InputError(f"{where}: not JSON: {_lower(error.msg)} at column {error.colno}")
        except RecursionError:
            return InputError(f"{where}: the JSON is nested too deeply")
        except ValueError as error:
            return InputError(f"{where}: {first_line(error)}")
        if not isinstance(value, dict):
            return InputError(f"{where}: not a JSON object but {_kind(value)}")
        return value


class Table:
    """CSV or TSV with a header. Cells are texts; what they mean is up to the workflow's types."""

    def __init__(
        self, path: Path, name: str, inputs: tuple[Input, ...], delimiter: str = ","
    ) -> None:
        self.path, self.name, self.delimiter = path, name, delimiter
        self.optional = {
            i.id for i in inputs if i.default is not ... and i.type not in (str, Any)
        }  # fmt: skip
        """Inputs for which an empty cell means their default."""

    def columns(self) -> list[str] | None:
        with self.path.open("rb") as file:
            _, header = next(self._cells(file), (1, None))
        if isinstance(header, InputError):
            raise header
        return header

    def __iter__(self) -> Iterator[Line]:
        with self.path.open("rb") as file:
            rows = self._cells(file)
            _, header = next(rows, (1, []))
            if isinstance(header, InputError):
                raise header
            for number, cells in rows:
                if isinstance(cells, InputError) or cells:
                    yield Line(number, self._row(number, header, cells))

    def _cells(self, file: BinaryIO) -> Iterator[tuple[int, list[str] | InputError]]:
        """Every record with the line it begins on, the header among them."""
        csv.field_size_limit(MAX_LINE)
        rows = csv.reader(_texts(file), delimiter=self.delimiter, strict=True)
        while True:
            number = rows.line_num + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                why = str(error)
                if why == "unexpected end of data":
                    why = "a quote that opens here is never closed"
                yield number, InputError(f"{self.name}:{number}: not CSV: {why}")
                continue
            try:
                "".join(cells).encode()
                yield number, cells
            except UnicodeEncodeError:
                yield number, InputError(f"{self.name}:{number}: not UTF-8")

    def _row(
        self, number: int, header: list[str], cells: list[str] | InputError
    ) -> dict[str, Any] | InputError:
        if isinstance(cells, InputError):
            return cells
        if len(cells) != len(header):
            have = f"{len(cells)} cells, the header has {len(header)}"
            return InputError(f"{self.name}:{number}: the row has {have}")
        pairs = zip(header, cells, strict=True)
        return {k: cell for k, cell in pairs if cell or k not in self.optional}


class Parquet:
    """A Parquet file, read by pyarrow in batches."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            hint = "install it with: pip install 'plait[parquet]'"
            raise InputError(f"{name}: reading Parquet needs pyarrow; {hint}") from None
        self._open, self._error = ParquetFile, ArrowException

    def columns(self) -> list[str] | None:
        try:
            with self._open(self.path) as file:
                return list(file.schema_arrow.names)
        except (self._error, OSError) as error:
            raise self._unreadable(error) from error

    def __iter__(self) -> Iterator[Line]:
        number = 0
        try:
            with self._open(self.path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        number += 1
                        yield Line(number, row)
        except (self._error, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{self.name}: not a Parquet file: {first_line(error, 200)}")


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines in bounded memory, without a byte order mark; None for one that is too long."""
    raw = file.readline(MAX_LINE + 1)
    raw = raw.removeprefix(_BOM)
    while raw:
        if len(raw) > MAX_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(_CHUNK)
            yield None
        else:
            yield raw
        raw = file.readline(MAX_LINE + 1)


def _texts(file: BinaryIO) -> Iterable[str]:
    """Lines as text; bytes that are no UTF-8 become lone surrogates, found again in the cells."""
    first = True
    while raw := file.readline(MAX_LINE):
        yield (raw.removeprefix(_BOM) if first else raw).decode(errors="surrogateescape")
        first = False


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
