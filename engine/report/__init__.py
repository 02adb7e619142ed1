"""The report of a run: one HTML file, made from what stands in the run's directory."""

from __future__ import annotations

from pathlib import Path

from ..rundir import RunDir, write_text
from .facts import read_facts
from .page import page

__all__ = ["read_facts", "write_report"]


def write_report(run: RunDir, output: Path | None = None) -> Path:
    """Write the report, to `report.html` in the run's directory unless told otherwise.

    Raises InputError when the directory holds no run.
    """
    path = output or run.report
    write_text(path, page(read_facts(run)))
    return path
