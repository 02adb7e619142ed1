"""What each rule did to a plan, as text: for `plait explain --verbose`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from .explain import one_line

if TYPE_CHECKING:
    from .logical import Plan
    from .rules import Rule

SAME = "same as above"


class Told:
    """An observer of `optimize` that keeps the plan's text after every rule."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._last: str | None = None

    def __call__(self, rule: Rule, before: Plan, after: Plan) -> None:
        if self._last is None:
            self._last = _text(before)
            self.parts.append(f"-- as written\n{self._last}")
        text = _text(after)
        shown = [] if text == self._last else [text]
        shown += _changed_prompts(before, after)
        what = one_line((inspect.getdoc(rule) or "").partition("\n\n")[0])
        self.parts.append("\n".join((f"-- after {rule.__name__}: {what}", *(shown or [SAME]))))
        self._last = text

    def __str__(self) -> str:
        return "\n".join(self.parts)


def _text(plan: Plan) -> str:
    moved = (part for part in plan.parts if part.order is not None)
    orders = (f"order of rows in {p.workflow.name}: {list(p.order or ())[:12]} ..." for p in moved)
    return "\n".join([str(plan), *orders])


def _changed_prompts(before: Plan, after: Plan) -> list[str]:
    """Prompts that a rule has changed, whole: in the plan's text they may be cut before that."""
    known = {(step.name, step.prompt) for step in before.steps}
    return [
        f"prompt of %{step.number}, now: {one_line(step.prompt)}"
        for step in after.steps if step.prompt and (step.name, step.prompt) not in known
    ]  # fmt: skip
