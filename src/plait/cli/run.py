"""`plait run`: a workflow over a file of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Devices,
    Disable,
    Expect,
    HostMemory,
    Json,
    Memory,
    Model,
    Models,
    Quiet,
    RowsIn,
    Target,
    devices_of,
    models_of,
)


def run(
    target: Target,
    rows: RowsIn,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT",
                     help="Results, as JSONL; - is standard output. [default: RUN_DIR/out.jsonl]"),
    ] = None,
    model: Model = None,
    models: Models = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of the run. [default: runs/WORKFLOW-TIME]"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Run only rows that have no result yet. Whole rows: "
                     "one that was under way begins again from its first node."),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Run only the first rows.")] = None,
    max_errors: Annotated[
        str | None,
        typer.Option(metavar="N|P%",
                     help="Stop when more rows have failed; P% is of all rows to run."),
    ] = None,
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Write results in the order of the input.")
    ] = False,
    backend: Annotated[
        str, typer.Option(help="local, or fake: answers without a model, for dry runs.")
    ] = "local",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    kv_memory: Annotated[
        str | None, typer.Option(help="Memory for KV caches, such as 2GiB.")
    ] = None,
    host_memory: HostMemory = None,
    memory: Memory = None,
    devices: Devices = None,
    seed: Annotated[int, typer.Option(help="Seed of all sampling.")] = 0,
    max_rows: Annotated[int, typer.Option(help="Most rows under way at once.")] = 2_048,
    no_plan: Annotated[
        bool,
        typer.Option("--no-plan", help="Merge nothing: run every call of every row on its own."),
    ] = False,
    disable: Disable = None,
    expect: Expect = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:  # fmt: skip
    """Run a workflow for every row of a file.

    Results are written as rows finish. Every input row gets exactly one output row. A row that
    fails becomes one with status "error";
    the others go on. Ctrl-C finishes what is under way, a second one does not.

    Ends with 0 when every row is ok, 2 when some failed, 3 when interrupted.
    """
    from ..dag.errors import ConfigError
    from ..engine.prepare import prepare
    from ..engine.settings import Settings
    from .perform import perform

    if as_json and output == "-":
        raise ConfigError("--json and -o - both want standard output: give -o a file")
    settings = Settings(
        target, rows, output, models_of(model, models), backend, device, dtype, kv_memory, seed,
        max_rows, limit, max_errors, keep_order, not no_plan, disable or (),
        memory, devices_of(devices), host_memory, expect or (),
    )  # fmt: skip
    return perform(lambda: prepare(settings, run_dir, resume), as_json=as_json, quiet=quiet)
