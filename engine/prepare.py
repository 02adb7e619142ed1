"""From what was asked for to a batch that is ready: everything that can be wrong is wrong here."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..dag.errors import ConfigError, InputError, WorkflowError
from ..dag.hints import read_hints
from ..dag.nodes import Workflow
from .batch import Batch, now
from .history import to_session
from .loading import Loaded, load
from .output import check_output, open_copy
from .plan_file import write_plan
from .results import Results, mend
from .rows import Rows, open_rows
from .rundir import RunDir, latest, new_directory
from .settings import Settings
from .spool import Spool

VERSIONS = ("plait", "torch", "transformers", "pydantic")


def prepare(settings: Settings, run_dir: Path | None = None, resume: bool = False) -> Batch:
    """A batch ready to execute, in a new run directory or, to resume, in the one it began in.

    Raises UserError kinds: nothing has been run then, and no directory is left behind.
    """
    loaded = load(settings.target)
    workflow = checked(loaded, settings)
    run = _find(settings, workflow, run_dir, resume)
    with Spool(settings, run, resume) as spool:
        rows = open_rows(spool.path, workflow.inputs, limit=settings.limit, name=spool.name)
        check_output(settings, rows)
        identity = _identity(loaded, rows, settings)
        if resume:
            config = run.read()
            refuse_changes(run, config["identity"], identity)
        else:
            config = {"asked": asked(settings), "sessions": []}
        engine = settings.engine()
        fresh = run.make()
        rows = spool.keep(rows)
    try:
        return begin(settings, workflow, rows, run, config, identity, engine)
    except BaseException:
        if fresh:
            run.remove()
        raise


def prepare_retry(run_dir: Path) -> Batch:
    """A batch of the failed rows of a run, ready to execute in its directory.

    The workflow file may have changed since; the rows may not.
    """
    run = RunDir(run_dir)
    config = run.read()
    settings = replace(asked_of(run, config), expect=())  # said of the workflow as it was then
    loaded = load(settings.target)
    workflow = checked(loaded, settings)
    with Spool(settings, run, resume=True) as spool:
        rows = open_rows(spool.path, workflow.inputs, limit=settings.limit, name=spool.name)
    identity = _identity(loaded, rows, settings)
    kept = {"workflow": config["identity"].get("workflow")}
    refuse_changes(run, config["identity"], identity | kept)
    engine = settings.engine()
    return begin(settings, workflow, rows, run, config, identity, engine, retry=True)


def asked_of(run: RunDir, config: Mapping[str, Any]) -> Settings:
    """What a run was asked for, by its `run.json`, with paths that hold wherever plait is called
    from. Raises InputError for one that another version of plait wrote."""
    try:
        return anchored(Settings(**config["settings"]), Path(config["cwd"]))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.config} was written by another version of plait: {error}"
        ) from error


def anchored(settings: Settings, folder: Path) -> Settings:
    """Settings with paths that hold wherever plait is called from."""
    file, colon, name = settings.target.rpartition(":")
    target = f"{folder / file}:{name}" if colon else str(folder / settings.target)
    models = {
        alias: str(folder / name) if (folder / name).is_dir() else name
        for alias, name in settings.models.items()
    }
    rows, output = settings.input, settings.output
    return replace(
        settings,
        target=target,
        models=models,
        input=rows if rows == "-" else str(folder / rows),
        output=output if output in (None, "-") else str(folder / output),
    )


def begin(
    settings: Settings, workflow: Workflow, rows: Rows, run: RunDir, config: dict[str, Any],
    identity: dict[str, Any], engine: Any, retry: bool = False,
) -> Batch:  # fmt: skip
    """Open the record of a run for a further start, and say in run.json that it has begun."""
    try:
        given = dict(read_hints(workflow, settings.expect))
        lock = run.lock()
        found = mend(run.out, drop_errors=retry)
        before = {id: status for id, status in found.items() if id in rows.lines}
        results = Results(run.out, open_copy(settings, rows, run), lock)
        told = {
            "workflow": workflow.name, "identity": identity, "rows": len(rows),
            "settings": settings.as_json(), "cwd": os.getcwd(), "versions": versions(),
            "platform": platform.platform(),
        }  # fmt: skip
        if not (run.plan.exists() and _same_plan(config, told)):
            write_plan(workflow, rows, run, settings)
        config |= told
        known = to_session(workflow, run.path.absolute().parent, settings.models)
        start = {"status": "running", "started": now(), "expected": known, "given": given}
        config["sessions"].append(start)
        run.write(config)
    except BaseException:
        engine.close()
        raise
    return Batch(workflow, rows, results, run, config, settings, engine, before)


def _same_plan(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a start plans what the start before it has planned, as run.json says of both."""

    def planned(config: Mapping[str, Any]) -> tuple[Any, ...]:
        settings = config.get("settings", {})
        rules = settings.get("plan"), list(settings.get("disable", ()))
        return config.get("identity"), config.get("rows"), *rules

    return planned(before) == planned(now)


def checked(loaded: Loaded, settings: Settings) -> Workflow:
    """The workflow, free of problems that would fail its rows."""
    from ..dag.check import check

    workflow = loaded.workflow
    aliases = settings.models if settings.backend == "local" else None
    problems = check(workflow, models=aliases, unused=False)
    if problems:
        raise WorkflowError(*problems)
    return workflow


def asked(settings: Settings) -> dict[str, Any]:
    """What tells one batch from another: workflow, input and output, wherever plait is called."""
    places = {"target": settings.target, "input": settings.input, "output": settings.output}
    return {k: v if v in (None, "-") else os.path.abspath(v) for k, v in places.items()}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


# -- directories -------------------------------------------------------------------------------


def _find(settings: Settings, workflow: Workflow, run_dir: Path | None, resume: bool) -> RunDir:
    if not resume:
        run = RunDir(run_dir or new_directory(workflow.name))
        if run.holds_run():
            hint = "add --resume to go on with it, or choose another --run-dir"
            raise ConfigError(f"{run.path} already holds a run: {hint}")
        if run.path.exists() and not run.path.is_dir():
            raise ConfigError(f"--run-dir {run.path} is a file: give a directory")
        if run.out.is_file() and run.out.stat().st_size:
            raise ConfigError(f"{run.out} holds other results: choose another --run-dir")
        return run
    if run_dir is not None:
        RunDir(run_dir).read()
        return RunDir(run_dir)
    found = latest(asked(settings))
    if found is None:
        hint = "say which with --run-dir"
        raise ConfigError(f"no run of this workflow, input and output in runs/ to resume: {hint}")
    return found


_CHANGES = {
    "workflow": "the workflow file has changed since",
    "input": "the input file has changed since",
    "models": "it was made with other models",
    "backend": "it was made with another backend",
    "seed": "it was made with another seed",
}


def refuse_changes(run: RunDir, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigError when results of two different programs would end in one file."""
    for name, what in _CHANGES.items():
        if before.get(name) != now[name]:
            was = (
                f" ({before.get(name)}, now {now[name]})"
                if name not in ("workflow", "input")
                else ""
            )
            hint = "undo that, or start afresh without --resume in another --run-dir"
            raise ConfigError(f"cannot resume {run.path}: {what}{was}: {hint}")


def _identity(loaded: Loaded, rows: Rows, settings: Settings) -> dict[str, Any]:
    return {
        "workflow": f"{loaded.sha256}:{loaded.name or ''}", "input": rows.sha256,
        "models": dict(settings.models), "backend": settings.backend, "seed": settings.seed,
    }  # fmt: skip
