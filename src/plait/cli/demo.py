"""`plait demo`: one of the examples, as a batch on the embedded model."""

from __future__ import annotations

import shlex
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, print_json

FOLDER = Path(__file__).parent.parent / "demo"
"""The example with its rows; in the repository it stands at `examples/demo`."""
WAYS = {"planned_right": "a plan, carried out by a tool", "alone_right": "solved in one go"}


def demo(
    run_dir: Annotated[
        Path | None, typer.Option(help="Directory of the run. [default: runs/demo-TIME]")
    ] = None,
    backend: Annotated[str, typer.Option(help="local, or fake: without the model.")] = "local",
    as_json: Json = False,
) -> int:
    """Run an example on the embedded model.

    It solves 100 word problems, each in two ways, and compares the answers.
    """
    from ..engine.prepare import prepare
    from ..engine.results import read_results
    from ..engine.settings import Settings
    from .perform import perform

    workflow, rows = _shown(FOLDER / "workflow.py"), _shown(FOLDER / "problems.jsonl")
    if not as_json:
        print(f"$ {shlex.join(['plait', 'run', workflow, '-i', rows])}\n", flush=True)
    batch = prepare(Settings(workflow, rows, backend=backend), run_dir)
    code = perform(lambda: batch, quiet=as_json)
    outputs = [at.row["output"] for at in read_results(batch.run.out) if at.row["status"] == "ok"]
    scores = compare(outputs)
    if as_json:
        print_json({"run_dir": str(batch.run.path), "exit_code": code, "right": scores})
    elif outputs:
        print("\n" + table(scores))
    return code


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def compare(outputs: list[dict[str, Any]]) -> dict[str, dict[str, tuple[int, int]]]:
    """For each way of solving: right answers and problems, by the number of steps and in all."""
    scores = {way: defaultdict(lambda: (0, 0)) for way in WAYS}  # type: ignore[var-annotated]
    for output in sorted(outputs, key=lambda o: int(o["steps"])):
        for way, by_steps in scores.items():
            for key in (str(output["steps"]), "all"):
                right, count = by_steps[key]
                by_steps[key] = (right + bool(output[way]), count + 1)
    return {way: dict(by_steps) for way, by_steps in scores.items()}


def table(scores: dict[str, dict[str, tuple[int, int]]]) -> str:
    """The comparison as text."""
    first = next(iter(scores.values()))
    columns = [*(k for k in first if k != "all"), "all"]
    lines = ["right answers by number of steps".ljust(34) + "".join(f"{c:>9}" for c in columns)]
    for way, by_steps in scores.items():
        cells = (f"{right}/{count}" for right, count in (by_steps[c] for c in columns))
        lines.append(f"  {WAYS[way]:<32}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
