"""The file that -o names, beside the record in the run's directory."""

from __future__ import annotations

import os
import stat
from io import FileIO
from itertools import count
from pathlib import Path

from ..dag.errors import ConfigError
from .results import Copy, Id, OrderedCopy, read_results
from .rows import Rows
from .rundir import RunDir
from .settings import Settings


def check_output(settings: Settings, rows: Rows) -> None:
    """Raise ConfigError if results cannot go where -o says."""
    if settings.output in (None, "-"):
        return
    path = Path(settings.output or "")
    if path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq"):
        raise ConfigError(f"-o {path}: results are written as JSONL; name the file .jsonl")
    if path.is_dir():
        raise ConfigError(f"-o {path} is a directory: give a file")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {path}: there is no directory {path.parent}")
    if path.exists() and path.samefile(rows.path):
        raise ConfigError(f"-o {path} is the file of rows itself: give another")


def open_copy(settings: Settings, rows: Rows, run: RunDir) -> Copy | None:
    """The file given with -o, open, with the results of earlier starts already in it."""
    if settings.output is None or _same(settings.output, run.out):
        return None
    try:
        file = _open(settings.output)
    except OSError as error:
        raise ConfigError(f"-o {settings.output} cannot be written: {error.strerror}") from error
    waits = not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    copy = OrderedCopy(file, run.out, waits) if settings.keep_order else Copy(file, waits)
    if run.out.exists():
        order: dict[Id, int] = {id: i for i, id in enumerate(rows.lines)}
        beyond = count(len(order))  # rows that a smaller --limit leaves out
        with run.out.open("rb") as record:
            for at in read_results(run.out):
                record.seek(at.offset)
                id = at.row["id"]
                place = order[id] if id in order else next(beyond)
                copy.add(place, at.offset, record.read(at.size))
    return copy


def _same(output: str, record: Path) -> bool:
    """Whether -o names the record itself."""
    return output != "-" and Path(output).resolve() == record.resolve()


def _open(output: str) -> FileIO:
    if output == "-":
        return os.fdopen(os.dup(1), "wb", buffering=0)
    return Path(output).open("wb", buffering=0)
