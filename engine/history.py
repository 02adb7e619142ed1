"""What earlier runs have shown: how long answers are, how long tools take. In one file beside them,
or as long as an engine lives.

Kept per operator, model and settings, so that another workflow with the same call profits too. It
is advice: a file that cannot be read or written is no error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..dag.errors import ConfigError
from ..dag.estimates import Estimates, operator_key
from ..dag.names import named_nodes
from ..dag.nodes import LLMCall, ToolCall, Workflow
from ..dag.observed import Observed

log = logging.getLogger("plait")
NAME = "history.json"
MOST = 1_000
"""Operators that are remembered; those that ran longest ago are forgotten first."""


class History:
    """What an engine's own runs have shown and, with a folder, those of the history there.

    Runs read it while others end: what is known is replaced, never changed.
    """

    def __init__(self, models: Mapping[str, str], folder: Path | None = None) -> None:
        """`models`: alias -> what it stands for. Raises ConfigError when `folder` is a file."""
        if folder is not None and folder.is_file():
            raise ConfigError(f"history={str(folder)!r} is a file: give the folder it is in")
        self._models, self._folder = dict(models), folder
        self._known = read(folder) if folder is not None else {}
        self._lock = threading.Lock()

    def estimates(self, given: Mapping[str, float]) -> Estimates:
        """What is expected of operators now; what is `given` goes before what was seen."""
        return Estimates(self._known, given=given, names=self._models)

    async def learn(self, workflow: Workflow, stats: Mapping[str, Any]) -> None:
        """Add what a run has shown; `stats` are its counters as they stand in run.json."""
        found = observed(workflow, stats, self._models)
        with self._lock:  # runs of several threads may end together
            self._known = _joined(self._known, found)
        if self._folder is not None:
            await asyncio.to_thread(add, self._folder, found)


def observed(workflow: Workflow, stats: Mapping[str, Any], models: Mapping[str, str] | None = None
             ) -> dict[str, Observed]:  # fmt: skip
    """What one run has shown, by operator. `stats` are its counters as they stand in run.json."""
    found: dict[str, Observed] = {}
    counted = stats.get("nodes", {})
    for name, node in named_nodes(workflow):
        seen = counted.get(name, {}).get("seen")
        if not seen or not isinstance(node, LLMCall | ToolCall):
            continue
        model = (models or {}).get(node.model) if isinstance(node, LLMCall) else None
        found.setdefault(operator_key(node, model), Observed()).join(Observed.of(seen))
    return found


def read(folder: Path) -> dict[str, Observed]:
    """What runs in this folder have shown."""
    try:
        data = json.loads((folder / NAME).read_text())
        return {key: Observed.of(seen) for key, seen in data["operators"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def learn(
    run: Path, workflow: Workflow, stats: Mapping[str, Any], models: Mapping[str, str]
) -> None:
    """Add what a run has shown to the history of the runs it stands among. Beside anything else
    nothing is written: such a run is among none."""
    folder = run.absolute().parent
    if holds_runs(folder):
        add(folder, observed(workflow, stats, models))


def holds_runs(folder: Path) -> bool:
    """Whether a folder is one of runs: by its name, or it has a history, or nothing but runs."""
    if folder.name == "runs" or (folder / NAME).exists():
        return True
    try:
        with os.scandir(folder) as found:
            return all(one.name[0] == "." or Path(one, "run.json").exists() for one in found)
    except OSError:
        return False


def add(folder: Path, found: Mapping[str, Observed]) -> None:
    """Add what a run has shown. The file is replaced whole, or left as it is."""
    part = folder / f".{NAME}.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            known = _joined(read(folder), found)
            seen = {key: seen.as_json() for key, seen in known.items()}
            part.write_text(json.dumps({"operators": seen}))
            part.replace(folder / NAME)
    except OSError as error:
        log.debug("history is not kept: %s", error)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of runs that end together one after the other adds to the history. A lock on the file itself
    would be one on a file that is replaced."""
    import fcntl

    with (folder / f".{NAME}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _joined(known: Mapping[str, Observed], found: Mapping[str, Observed]) -> dict[str, Observed]:
    """Both, without those that ran longest ago where they are too many."""
    both = dict(known)
    for key, seen in found.items():
        before = both.pop(key, None)
        both[key] = deepcopy(seen)
        if before is not None:
            both[key].merge(before)
    return dict([*both.items()][-MOST:])


def estimates(folder: Path | None, models: Mapping[str, str]) -> Estimates:
    """What is expected of operators, from the runs in a folder."""
    return Estimates(read(folder) if folder is not None else {}, names=dict(models))


def to_session(workflow: Workflow, folder: Path, models: Mapping[str, str]) -> dict[str, Any]:
    """What is expected of a workflow's operators now, to be put beside what a run then does."""
    found = estimates(folder, models)
    out: dict[str, Any] = {}
    for _, node in named_nodes(workflow):
        if isinstance(node, LLMCall | ToolCall):
            seen = found.seen(node)
            if seen is not None:
                out[operator_key(node)] = seen[0].as_json()
    return out


def expected(workflow: Workflow, session: Mapping[str, Any]) -> Estimates:
    """What was expected when a run began, as somebody said (`given`) or earlier runs had shown;
    from what it then did, only where that is not known."""
    before = {key: Observed.of(seen) for key, seen in session.get("expected", {}).items()}
    if before or "expected" in session:
        return Estimates(before, given=session.get("given", {}))
    return Estimates(sample=observed(workflow, session["stats"]))
