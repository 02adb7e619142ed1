"""`plait report`: the report of a run, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, RunPath, print_json


def report(
    run_dir: RunPath,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html",
                     help="Where it goes. [default: report.html in the run directory]"),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write the report of a run.

    It is one HTML file that needs no network.
    """
    from ..dag.errors import ConfigError
    from ..engine.report import read_facts, write_report
    from ..engine.rundir import RunDir

    run = RunDir(run_dir)
    try:
        written = write_report(run, output)
    except OSError as error:
        raise ConfigError(f"the report cannot be written: {error}") from error
    if as_json:
        print_json({"report": str(written), **read_facts(run).as_json()})
    else:
        print(written)
