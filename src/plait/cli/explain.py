"""`plait explain`: what a run would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Disable, Json, Target


def explain(
    target: Target,
    rows: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="ROWS",
                     help="Rows: .jsonl, .csv, .tsv or .parquet. [default: no rows]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first rows.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the plan after each rule.")
    ] = False,
    no_plan: Annotated[
        bool, typer.Option("--no-plan", help="Show the workflow as it is written.")
    ] = False,
    disable: Disable = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what would run, before it runs."""
    from ..dag.plan import make_plan
    from ..dag.verbose import Told
    from ..engine.loading import load
    from ..engine.planning import check_disabled, rules_off
    from ..engine.rows import open_rows

    check_disabled(disable or ())
    graph = load(target).workflow
    given: Any = open_rows(Path(rows), graph.inputs, limit=limit) if rows is not None else ()
    told = Told()
    plan = make_plan(graph, given, disable=rules_off(not no_plan, disable or ()), observe=told)
    if verbose and not as_json:
        print(told)
    print(plan.to_json() if as_json else plan)
