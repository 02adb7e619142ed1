"""A run that has been made, as a plan is put beside it: what it was asked for and what it has done,
and what must be known of both to read one beside the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dag.errors import InputError
from ..dag.nodes import Input
from .loading import Loaded
from .prepare import anchored, asked_of
from .rows import Rows, open_rows
from .rundir import RunDir
from .settings import Settings
from .starts import all_starts

PLANNED = ("plan", "disable", "limit", "expect")
"""Settings that make another plan."""
PRICED = ("models", "kv_memory", "host_memory", "memory", "devices")
"""Those that make another price of it."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """What is known of a run by its directory."""

    path: Path
    config: Mapping[str, Any]
    """Its `run.json`."""
    settings: Settings
    session: Mapping[str, Any]
    """What was expected when it began, and the counters of all its starts; see `all_starts`."""

    @property
    def stats(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.session["stats"]
        return found

    @property
    def input(self) -> str:
        """Its rows, as they were given."""
        name: str = self.config["settings"]["input"]
        return "standard input" if name == "-" else name

    def rows(self, inputs: tuple[Input, ...], limit: int | None) -> Rows:
        """Its rows. Raises InputError when they are not there any more."""
        given, kept = Path(self.settings.input), RunDir(self.path).stdin
        path = kept if kept.exists() and not given.is_file() else given
        if not path.exists():
            what = f"{self.path} is a run of {self.input}, which is not there any more"
            raise InputError(f"{what}: give the rows with -i")
        return open_rows(path, inputs, limit=limit, name=self.input)

    def __str__(self) -> str:
        """The run in a few words: `runs/a (3 rows of rows.jsonl, --no-plan)`."""
        count = f"{_rows(self.config['rows'])} of {self.input}"
        asked = (_option(self.settings, name) for name in (*PLANNED, *PRICED))
        return f"{self.path} ({', '.join([count, *filter(None, asked)])})"


def past_run(path: Path, workflow: str) -> PastRun:
    """The run in a directory. Raises as `all_starts` does."""
    session = all_starts(path, workflow)
    run = RunDir(path)
    config = run.read()
    return PastRun(path, config, asked_of(run, config), session)


def differences(
    run: PastRun, loaded: Loaded, rows: Rows, settings: Settings, priced: bool
) -> Iterator[str]:
    """In what the run was another than what is predicted: its workflow, rows and settings, and the
    models as well where they are `priced`."""
    settings = anchored(settings, Path.cwd())
    before = run.config["identity"]
    if before["workflow"].partition(":")[0] != loaded.sha256:
        yield "the workflow file has changed since the run: predicted is for what it holds now"
    if before["input"] != rows.sha256:
        same = rows.path.resolve() == Path(run.settings.input).resolve()
        what = "have changed since the run" if same else f"are not the run's ({run.input})"
        yield f"the rows {what}: predicted is for those of now"
    for name in (*PLANNED, *(PRICED if priced else ())):
        was, now = (_option(asked, name) for asked in (run.settings, settings))
        if was != now:
            yield f"the run was made {_with(name, was)}, predicted is {_with(name, now)}"
    yield from _course(run)


def _course(run: PastRun) -> Iterator[str]:
    """What of the run itself no plan foresees."""
    if run.settings.backend != "local":
        yield f"the run was made with --backend {run.settings.backend}, which asks no model"
    starts = run.config["sessions"]
    if starts[-1]["status"] != "complete":
        yield f"the run is not complete ({starts[-1]['status']}): predicted is for all its rows"
    lost = sum("stats" not in start for start in starts)
    if lost:
        yield f"{lost} of the run's {len(starts)} starts were killed: what they did is not counted"
    done = [start["stats"] for start in starts if "stats" in start]
    failed = sum(stats.get("rows_failed", 0) for stats in done)
    again = failed + sum(stats.get("rows_ok", 0) for stats in done) - run.config["rows"]
    if again > 0:
        yield f"{_rows(again)} of the run ran again: each time counts"
    if failed:
        yield f"{_rows(failed)} of the run failed, and may have made fewer calls"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _option(settings: Settings, name: str) -> str:
    """A setting as it is said on a command line; empty where it is left out."""
    value = getattr(settings, name)
    option = "--" + name.replace("_", "-")
    if name == "plan":
        return "" if value else "--no-plan"
    if not value:
        return ""
    if name == "models":
        return " ".join(
            f"--model {path}" if alias == "default" else f"--models {alias}={path}"
            for alias, path in value.items()
        )
    if name == "devices":
        return f"{option} {','.join(value)}"
    values = [value] if isinstance(value, str | int) else value
    return " ".join(f"{option} {one}" for one in values)


def _with(name: str, option: str) -> str:
    if name == "plan":
        return f"with {option}" if option else "with a plan"
    return f"with {option}" if option else f"without --{name.replace('_', '-')}"
