"""The report of a run (first form)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .rundir import RunDir, write_text


def write_report(run: RunDir, output: Path | None = None) -> Path:
    path = output or run.report
    write_text(path, "<!doctype html>")
    return path


def read_facts(run: RunDir) -> Any:
    return run.read()
