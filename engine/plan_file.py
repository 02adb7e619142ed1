"""The plan of a run on disk: `plan.json`, and a drawing of its workflow."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from ..dag.draw import svg
from ..dag.known import NOTHING, Known
from ..dag.logical import Plan
from ..dag.nodes import Workflow
from ..dag.picture import picture
from ..dag.picture_json import to_json as picture_json
from ..dag.plan import make_plan
from .planning import rules_off
from .rows import Rows
from .rundir import RunDir, write_text
from .settings import Settings


def write_plan(
    workflow: Workflow, rows: Rows, run: RunDir, settings: Settings, made: Known = NOTHING
) -> None:
    """What is planned for these rows, given the tool calls that planning has made, and a drawing of
    the workflow."""
    # A plan asks of its rows only their number and to go through them.
    given = cast("Collection[Mapping[str, Any] | None]", rows)
    off = rules_off(settings.plan, settings.disable)
    plan = make_plan(workflow, given, disable=off, known=made)
    told = {**plan.as_dict(), "dag": picture_json(picture(workflow))}
    _write(run, told)
    write_text(run.drawing, svg(workflow))


def follow_plan(
    plan: Plan, workflow: Workflow, rows: Rows, run: RunDir, settings: Settings
) -> None:
    """What became of the plan when the run began: tool calls made while planning, the order of
    rows, placement."""
    if plan.called:
        made = {one.call.key: one for one in plan.called}
        write_plan(workflow, rows, run, settings, made)
    found: dict[str, Any] = {}
    if plan.trials is not None:
        found["order"] = plan.trials.as_dict()
    if plan.placement is not None:
        found["placement"] = plan.placement.as_dict()
    if found:
        _write(run, json.loads(run.plan.read_text(encoding="utf-8")) | found)


def _write(run: RunDir, told: Mapping[str, Any]) -> None:
    write_text(run.plan, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
