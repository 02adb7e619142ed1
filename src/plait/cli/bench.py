"""`plait bench`: measurements of plait itself."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Json, print_json

app = typer.Typer(help="Measure plait on this machine.", no_args_is_help=True)


@app.command()
def overhead(
    rows: Annotated[int, typer.Option(help="Rows of ten calls each.")] = 5_000,
    repeats: Annotated[int, typer.Option(help="Runs, of which the median counts.")] = 3,
    as_json: Json = False,
) -> None:
    """What the executor costs per task, beside LangGraph when it is installed."""
    from ..benchmarks.overhead import bench, table

    found = bench(rows, repeats)
    if as_json:
        print_json(found)
    else:
        print(table(found))
