"""Rows that come from standard input or a pipe, kept in a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from .rows import Rows
from .rundir import RunDir
from .settings import Settings


class Spool:
    """The file of rows. Standard input and pipes are read to their end into a file first, so that
    they can be looked through before anything runs, and resumed."""

    def __init__(self, settings: Settings, run: RunDir, resume: bool) -> None:
        given = Path(settings.input)
        self._kept, self._temporary = run.stdin, None
        self.name = "standard input" if settings.input == "-" else settings.input
        self.path = given
        if resume and run.stdin.exists() and not given.is_file():
            self.path = run.stdin
            return
        if settings.input != "-" and (not given.exists() or given.is_file() or given.is_dir()):
            return
        with tempfile.NamedTemporaryFile(suffix=".jsonl", delete=False) as file:
            self.path = self._temporary = Path(file.name)
            try:
                with sys.stdin.buffer if settings.input == "-" else given.open("rb") as source:
                    shutil.copyfileobj(source, file)
            except BaseException:
                self.path.unlink()
                raise

    def keep(self, rows: Rows) -> Rows:
        """Move what was read into the run's directory, which is there by now."""
        if self._temporary is None:
            return rows
        shutil.copyfile(self._temporary, self._kept)
        return rows.moved(self._kept)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.unlink()
