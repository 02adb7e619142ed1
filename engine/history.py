"""What earlier runs have shown, in one file beside them: how long answers are, how long tools take.

Kept per operator, model and settings, so that another workflow with the same call profits too. It
is advice: a file that cannot be read or written is no error.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dag.estimates import Estimates, operator_key
from ..dag.names import named_nodes
from ..dag.nodes import LLMCall, ToolCall, Workflow
from ..dag.observed import Observed

log = logging.getLogger("plait")
NAME = "history.json"
MOST = 1_000
"""Operators that are remembered; those that ran longest ago are forgotten first."""


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
    """Add what a run has shown to the history of the runs it stands among. A run in a place of its
    own is among none."""
    if run.resolve().parent.name == "runs":
        add(run.parent, observed(workflow, stats, models))


def add(folder: Path, found: Mapping[str, Observed]) -> None:
    """Add what a run has shown. The file is replaced whole, or left as it is."""
    known = read(folder)
    for key, seen in found.items():
        before = known.pop(key, None)
        known[key] = seen
        if before is not None:
            seen.merge(before)
    kept = list(known.items())[-MOST:]
    text = json.dumps({"operators": {key: seen.as_json() for key, seen in kept}})
    part = folder / f".{NAME}.{os.getpid()}"
    try:
        part.write_text(text)
        part.replace(folder / NAME)
    except OSError as error:
        log.debug("history is not kept: %s", error)


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
