"""The plan of a run on disk: `plan.json`, and a drawing of its workflow."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from ..dag.draw import svg
from ..dag.logical import Plan
from ..dag.nodes import Workflow
from ..dag.picture import picture
from ..dag.picture_json import to_json as picture_json
from ..dag.plan import make_plan
from .planning import rules_off
from .rows import Rows
from .rundir import RunDir, write_text
from .settings import Settings

OF_A_START = ("order", "placement")
"""What of a plan is not of all rows, but of those that a start had left to run."""


def write_plan(workflow: Workflow, rows: Rows, run: RunDir, settings: Settings) -> None:
    """What is planned for these rows, and a drawing of the workflow."""
    # A plan asks of its rows only their number and to go through them.
    given = cast("Collection[Mapping[str, Any] | None]", rows)
    plan = make_plan(workflow, given, disable=rules_off(settings.plan, settings.disable))
    _write(run, {**plan.as_dict(), "dag": picture_json(picture(workflow))})
    write_text(run.drawing, svg(workflow))


def follow_plan(plan: Plan, rows: Rows, run: RunDir) -> None:
    """What was planned when the run began: with the model's own tokens, the tool calls made while
    planning, the order of rows, placement. Nothing is planned again.

    A start that resumes a run has planned only the rows that were left: what is counted, and the
    tool calls that are not counted because they were made, stay those of all rows.
    """
    written = json.loads(run.plan.read_text(encoding="utf-8"))
    told = plan.as_dict()
    if plan.rows < len(rows):
        told = written | {name: told[name] for name in OF_A_START if name in told}
    _write(run, {**told, "dag": written["dag"]})


def _write(run: RunDir, told: Mapping[str, Any]) -> None:
    write_text(run.plan, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
