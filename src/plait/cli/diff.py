"""`plait diff`: two runs, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, print_json

Run = Annotated[Path, typer.Argument(help="Run directory, or a file of results.")]
SHOWN = 10


def diff(run_a: Run, run_b: Run, as_json: Json = False) -> int:
    """Compare two runs row by row.

    Rows are the same when status, output and kind of error are. Ends with 0 when they are the
    same, with 2 when they differ.
    """
    from ..engine.compare import compare

    found = compare(run_a, run_b)
    if as_json:
        print_json(found.as_json())
    else:
        for line in found.differing[:SHOWN]:
            print(line)
        if len(found.differing) > SHOWN:
            print(f"... and {len(found.differing) - SHOWN} more")
        print(f"{found.same} rows are the same, {len(found.differing)} differ")
    return 2 if found.differing else 0
