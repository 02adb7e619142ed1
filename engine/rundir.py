"""A run's directory: what was asked for, what was planned, what came of it.

Everything in it is open text: `run.json`, `plan.json`, `out.jsonl`, `trace.json`, `dag.svg` and
`report.html`.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dag.errors import ConfigError, InputError


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of a run, and its `run.json`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "run.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def out(self) -> Path:
        return self.path / "out.jsonl"

    @property
    def trace(self) -> Path:
        return self.path / "trace.json"

    @property
    def drawing(self) -> Path:
        return self.path / "dag.svg"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def stdin(self) -> Path:
        """Rows that came from standard input or a pipe."""
        return self.path / "input.jsonl"

    def lock(self) -> int:
        """Keep other processes out until the descriptor that is returned is closed.

        Raises ConfigError when another one is at work here.
        """
        import fcntl

        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            message = f"another process is running in {self.path}: wait for it, or end it"
            raise ConfigError(message) from None
        return folder

    def make(self) -> bool:
        """Make the directory; whether it was not there. Raises ConfigError when it cannot be."""
        there = self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be made: {error.strerror}") from error
        return not there

    def holds_run(self) -> bool:
        return self.config.exists()

    def remove(self) -> None:
        """Delete the files of the run, and the directory when nothing else is in it."""
        for path in (self.config, self.plan, self.out, self.trace, self.drawing, self.report,
                     self.stdin):  # fmt: skip
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def read(self) -> dict[str, Any]:
        """`run.json`. Raises InputError when there is none or it cannot be read."""
        try:
            config = json.loads(self.config.read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.path} is no run directory: it has no run.json") from None
        except NotADirectoryError:
            raise InputError(f"{self.path} is a file: give the directory of a run") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.config} cannot be read: {error}") from error
        if not isinstance(config, dict) or "sessions" not in config:
            raise InputError(f"{self.config} is not the run.json of a plait run")
        return config

    def write(self, config: dict[str, Any]) -> None:
        """Replace `run.json`, all or nothing."""
        write_text(self.config, json.dumps(config, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file by this text, all or nothing."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def new_directory(workflow: str, root: Path = Path("runs")) -> Path:
    """A directory that is not there yet: runs/<workflow>-<time>."""
    name = re.sub(r"[^\w.-]+", "-", workflow)
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = root / stem, 1
    while path.exists():
        number += 1
        path = root / f"{stem}-{number}"
    return path


def latest(asked: dict[str, Any], root: Path = Path("runs")) -> RunDir | None:
    """The newest run in `root` that was asked for the same: workflow file, input and output."""
    found = []
    for config in root.glob("*/run.json"):
        try:
            run = RunDir(config.parent).read()
        except InputError:
            continue
        if run.get("asked") == asked:
            found.append((run["sessions"][-1]["started"], config.parent))
    return RunDir(max(found)[1]) if found else None
