"""`plait explain`: what a run would do, what it would cost, and how that compares with a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    Devices,
    Disable,
    Expect,
    HostMemory,
    Json,
    Memory,
    Models,
    Target,
    devices_of,
    models_of,
)


def explain(
    target: Target,
    rows: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="ROWS",
                     help="Rows: .jsonl, .csv, .tsv or .parquet. [default: no rows]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the plan after each rule.")
    ] = False,
    no_plan: Annotated[
        bool, typer.Option("--no-plan", help="Show the workflow as it is written.")
    ] = False,
    disable: Disable = None,
    model: Annotated[
        str | None, typer.Option(help="Load this model, and say what the run will cost on it.")
    ] = None,
    models: Models = None,
    kv_memory: Annotated[
        str | None, typer.Option(help="KV memory of each model, as for run: such as 2GiB.")
    ] = None,
    host_memory: HostMemory = None,
    memory: Memory = None,
    devices: Devices = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the model's costs first, some seconds.")
    ] = False,
    analyze: Annotated[
        Path | None,
        typer.Option(metavar="RUN_DIR", help="Put what a run has done beside the plan."),
    ] = None,
    expect: Expect = None,
    runs: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Earlier runs, which say how long answers and tools are."),
    ] = Path("runs"),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what would run, before it runs."""
    from ..dag.analyze import analysis, compare
    from ..dag.explain import explain as explained
    from ..dag.explain import told_cost
    from ..dag.hints import read_hints
    from ..dag.verbose import Told
    from ..engine.history import estimates, expected
    from ..engine.loading import load
    from ..engine.planning import check_disabled
    from ..engine.priced import price
    from ..engine.rows import open_rows
    from ..engine.starts import all_starts

    check_disabled(disable or (), not no_plan)
    graph = load(target).workflow
    given: Any = open_rows(Path(rows), graph.inputs, limit=limit) if rows is not None else ()
    told = Told()
    session = all_starts(analyze, graph.name) if analyze is not None else None
    asked = models_of(model, models) if model or models or devices else {}
    known = expected(graph, session) if session is not None else estimates(runs, asked)
    known = replace(known, given={**known.given, **read_hints(graph, expect or ())})
    found = price(
        graph, given, asked, known=known,
        planned=not no_plan, disable=disable or (), observe=told, calibrate=calibrate,
        kv_memory=kv_memory, host_memory=host_memory, memory=memory, devices=devices_of(devices),
    )  # fmt: skip
    if as_json:
        from .options import print_json

        extra: dict[str, Any] = {"cost": found.cost.as_dict()} if found.cost else {}
        if found.oversized:
            extra["oversized"] = [one.as_dict() for one in found.oversized]
            extra["left_out"] = found.left_out
        if session is not None:
            extra["analysis"] = compare(found.plan, found.cost, session["stats"])
        if verbose:
            extra["changes"] = told.parts
        print_json({**found.plan.as_dict(), **extra})
        return
    if verbose and told.parts:
        print(told)
    print(explained(found.plan, found.cost, found.left_out))
    if found.cost is not None:
        print(told_cost(found.cost))
    for one in found.oversized:
        print(one)
    if session is not None:
        print(analysis(found.plan, found.cost, session["stats"]))
