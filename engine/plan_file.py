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

FOLLOWED = ("called", "order", "placement")
"""What is known of a plan only once its run begins."""


def write_plan(workflow: Workflow, rows: Rows, run: RunDir, settings: Settings) -> None:
    """What is planned for these rows, and a drawing of the workflow."""
    # A plan asks of its rows only their number and to go through them.
    given = cast("Collection[Mapping[str, Any] | None]", rows)
    plan = make_plan(workflow, given, disable=rules_off(settings.plan, settings.disable))
    _write(run, {**plan.as_dict(), "dag": picture_json(picture(workflow))})
    write_text(run.drawing, svg(workflow))


def follow_plan(plan: Plan, rows: Rows, run: RunDir) -> None:
    """What became of the plan when the run began: tool calls made while planning, the order of
    rows, placement. Nothing is planned again.

    A start that resumes a run has planned only the rows that were left: what is counted stays that
    of all rows.
    """
    if not plan.called and plan.trials is None and plan.placement is None:
        return
    told = plan.as_dict()
    if plan.rows < len(rows):
        told = {name: told[name] for name in FOLLOWED if name in told}
    _write(run, json.loads(run.plan.read_text(encoding="utf-8")) | told)


def _write(run: RunDir, told: Mapping[str, Any]) -> None:
    write_text(run.plan, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
