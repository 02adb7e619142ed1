"""`plait explain`: what a run would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, Target


def explain(
    target: Target,
    rows: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="ROWS",
                     help="Rows: .jsonl, .csv, .tsv or .parquet. [default: no rows]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first rows.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what would run, before it runs."""
    from ..dag.plan import make_plan
    from ..engine.loading import load
    from ..engine.rows import open_rows

    graph = load(target).workflow
    given: Any = open_rows(Path(rows), graph.inputs, limit=limit) if rows is not None else ()
    plan = make_plan(graph, given)
    print(plan.to_json() if as_json else plan)
