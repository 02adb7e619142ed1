"""`plait explain`: what a run would do, what it would cost, and how that compares with a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    print_json,
)

if TYPE_CHECKING:
    from ..engine.settings import Settings


def explain(
    target: Target,
    rows: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="ROWS",
                     help="Rows: .jsonl, .csv, .tsv or .parquet. [default: no rows, or the run's]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the plan after each rule.")
    ] = False,
    no_plan: Annotated[
        bool | None,
        typer.Option("--no-plan/--plan", help="Show the workflow as it is written, or planned.",
                     show_default=False),
    ] = None,
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
        typer.Option(metavar="RUN_DIR",
                     help="Put what a run has done beside the plan, which is of the run's rows and "
                     "with its settings unless others are given."),
    ] = None,
    expect: Expect = None,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="DIR",
                     help="Earlier runs, which say how long answers and tools are. "
                     "[default: runs]"),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what would run, before it runs."""
    from ..dag.hints import read_hints
    from ..dag.verbose import Told
    from ..engine.history import estimates, expected
    from ..engine.loading import load
    from ..engine.past import differences, past_run
    from ..engine.priced import counted, price
    from ..engine.rows import open_rows
    from ..engine.settings import Settings
    from .explained import Explained

    loaded = load(target)
    graph = loaded.workflow
    hints = read_hints(graph, expect or ())
    priced = bool(model or models or devices)
    if not priced:
        _need_a_model(
            calibrate=calibrate, kv_memory=kv_memory, host_memory=host_memory, memory=memory,
            expect=expect if analyze is None else None,
        )  # fmt: skip
    run = past_run(analyze, graph.name) if analyze is not None else None
    settings = run.settings if run is not None else Settings(target, "", models={})
    plan = None if no_plan is None else not no_plan
    settings = _with(
        settings, plan=plan, disable=disable, limit=limit, kv_memory=kv_memory, expect=expect,
        host_memory=host_memory, memory=memory, devices=devices_of(devices),
        models=models_of(model, models) if model or models else {},
    )  # fmt: skip
    asked = (settings.models or models_of(None, None)) if priced else {}
    notes: list[str] = []
    given: Any = ()
    if rows is not None:
        given = open_rows(Path(rows), graph.inputs, limit=settings.limit)
    elif run is not None:
        given = run.rows(graph.inputs, settings.limit)
    if run is not None:
        known = expected(graph, run.session)
        notes += differences(run, loaded, given, settings, priced)
    else:
        known = estimates(runs or Path("runs"), asked)
    if runs is not None:
        notes += _of_history(runs, bool(known.history), run is not None)
    known = replace(known, given={**known.given, **hints})
    told = Told()
    found = price(
        graph, given, asked, known=known, planned=settings.plan, disable=settings.disable,
        observe=told, calibrate=calibrate, window=settings.max_rows, kv_memory=settings.kv_memory,
        host_memory=settings.host_memory, memory=settings.memory, devices=settings.devices,
        device=settings.device, dtype=settings.dtype,
    )  # fmt: skip
    if run is not None and found.cost is None:  # with a cost, that says what the run does
        whole = counted(
            found.plan, graph, given, planned=settings.plan, disable=settings.disable
        )  # fmt: skip
    else:
        whole = found.plan
    shown = Explained(found, told.parts if verbose else (), notes, run, whole, known)
    print_json(shown.as_dict()) if as_json else print(shown)


def _with(settings: Settings, **said: Any) -> Settings:
    """Settings, those in their place that were given on the command line."""
    given = {name: value for name, value in said.items() if value not in (None, (), [], {})}
    if "models" in given:
        given["models"] = {**settings.models, **given["models"]}
    if "devices" in given:
        given["device"] = "auto"
    if given.get("disable"):
        given.setdefault("plan", True)
    elif given.get("plan") is False:
        given["disable"] = ()
    return replace(settings, **given)


def _need_a_model(**given: Any) -> None:
    """Refuse what only says something of a price, where none was asked for."""
    from ..dag.errors import ConfigError

    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if names:
        need = "needs" if len(names) == 1 else "need"
        hint = "without one only calls and prompts are counted"
        raise ConfigError(f"{', '.join(names)} {need} --model: {hint}")


def _of_history(folder: Path, holds: bool, compared: bool) -> Iterator[str]:
    """What to say of a folder of earlier runs that was named."""
    if compared:
        yield "--runs is left aside: what was known when the run began is compared with it"
    elif not holds:
        yield f"{folder} holds no history.json with earlier runs: nothing is known from there"
