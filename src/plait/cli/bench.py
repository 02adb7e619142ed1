"""`plait bench`: measurements of plait itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, print_json

app = typer.Typer(help="Measure plait on this machine.", no_args_is_help=True)


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr)


def show(found: dict[str, Any], table: Callable[[dict[str, Any]], str], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print(table(found))


@app.command()
def overhead(
    rows: Annotated[int, typer.Option(min=1, help="Rows of ten calls each.")] = 5_000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs, of which the median counts.")] = 3,
    as_json: Json = False,
) -> None:
    """What the executor costs per task, beside LangGraph when it is installed."""
    from ..benchmarks.overhead import bench, table

    found = bench(rows, repeats)
    show(found, table, as_json)


@app.command()
def engine(
    threads: Annotated[int, typer.Option(help="Threads of every contender.")] = 2,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs at most, of which the median counts.")
    ] = 5,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this workload, or 'steps'; again for more.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    shape: Annotated[
        str | None,
        typer.Option(help="Of the model: small, tiny, qwen3-0.6b or qwen3-8b, its weights random. "
                     "[default: small on a CPU, qwen3-0.6b on a GPU]"),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="auto: float32 on a CPU, bfloat16 on a GPU.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also write all numbers here, as JSON.")
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The LLM engine beside transformers' own, and which floors are met. Takes ten minutes.

    The floors are those of the small model on a CPU. For others the physical floors of the device
    are shown: what reading weights and KV, and the products, take at the fastest.
    """
    from ..benchmarks.engine import bench
    from ..benchmarks.engine_table import table

    found = bench(
        threads, repeats, only or (), device=device, shape=shape, dtype=dtype, say=say, out=out
    )
    show(found, table, as_json)


@app.command()
def kernels(
    repeats: Annotated[int, typer.Option(min=1, help="Processes of each kind.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every process.")] = 2,
    as_json: Json = False,
) -> None:
    """plait's own kernels for processors beside torch's operators. Takes three minutes."""
    from ..benchmarks.kernels import measured, table

    show(measured(repeats, threads, say), table, as_json)


@app.command()
def prediction(
    rows: Annotated[
        int, typer.Option(help="Rows of every shape; 0: as many as take some minutes in all.")
    ] = 0,
    shape: Annotated[
        list[str] | None, typer.Option(help="Only this shape; again for more.")
    ] = None,
    way: Annotated[
        list[str] | None, typer.Option(help="Only this way, such as 'plan'; again for more.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A model as for run, or 'random': 26.8 M weights without meaning.")
    ] = "random",
    as_json: Json = False,
) -> None:
    """What the planner says a batch will take beside what it takes, and how it ranks plans."""
    import tempfile

    from ..benchmarks.compared import table
    from ..benchmarks.prediction import bench
    from ..benchmarks.workflow_model import models_for

    with tempfile.TemporaryDirectory() as place:
        models = models_for(model, Path(place))
        found = bench(models, rows or None, shape or (), way or (), say)
    show(found, table, as_json)


@app.command()
def workflows(
    rows: Annotated[
        int, typer.Option(help="Rows of every shape; 0: 256, and 64 of the trading desk.")
    ] = 0,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of what is cheap; the median counts.")
    ] = 2,
    shape: Annotated[
        list[str] | None, typer.Option(help="Only this shape; again for more.")
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(help="Only this one; again for more.")] = None,
    model: Annotated[
        str, typer.Option(help="A model as for run, or 'random': 26.8 M weights without meaning.")
    ] = "random",
    kv: Annotated[
        list[str] | None, typer.Option(help="'ample' or 'half' the working set; both unless told.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="JSON of all numbers, written as it goes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Batches of agent workflows with the plan, beside the same engine without it."""
    import tempfile

    from ..benchmarks.workflow_model import models_for
    from ..benchmarks.workflows import Setting, bench, checked, table

    with tempfile.TemporaryDirectory() as place:
        setting = checked(
            Setting(models_for(model, Path(place)), rows or None, repeats), kv, mode, shape
        )
        found = bench(setting, shape or (), say, out)
    show(found, table, as_json)


@app.command()
def gap(
    instances: Annotated[
        int, typer.Option(min=1, help="Random batches of a few rows, and random placements.")
    ] = 500,
    as_json: Json = False,
) -> None:
    """How far plans are from the best ones: orders of rows, in tokens and in seconds of virtual
    time, placements of models on workers, in seconds, and both together."""
    from dataclasses import asdict

    from ..benchmarks import joint_gap, order_gap, placement_gap, time_gap

    demands = placement_gap.instances(instances)
    found: dict[str, Any] = {
        "tokens": order_gap.measured(instances),
        "seconds": time_gap.measured(instances),
        "placement": placement_gap.measured(demands),
        "placement_by_thumb": placement_gap.measured(demands, searched=0),
        "joint": joint_gap.measured(instances),
    }
    if as_json:
        print_json({name: asdict(gap) for name, gap in found.items()})
    else:
        print(*found.values(), sep="\n")


@app.command()
def two_models(
    rows: Annotated[int, typer.Option(min=1, help="Rows of every workflow.")] = 24,
    model: Annotated[
        str, typer.Option(help="A model's directory, 'demo', or 'random': 26.8 M weights.")
    ] = "demo",
    work: Annotated[list[str] | None, typer.Option(help="Only this workflow.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="Only this one; again for more.")] = None,
    as_json: Json = False,
) -> None:
    """Two models with memory for one: loads and seconds of the plan, beside asyncio alone."""
    import tempfile
    from dataclasses import asdict

    from ..benchmarks.two_models import bench, table
    from ..benchmarks.workflow_model import models_for

    with tempfile.TemporaryDirectory() as place:
        models = models_for(model, Path(place))
        paths = {alias: Path(models[alias]) for alias in ("small", "big")}
        found = bench(paths, rows, work or (), mode or (), say)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print(table(found))
