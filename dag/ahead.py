"""What lies ahead in a workflow, bodies of maps and loops included: which steps come after which.

The runtime names a step by its path without numbers: `notes[3]/look` is the step `notes/look`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy

from .demand import certain
from .nodes import Agent, LLMCall, Loop, Map, Workflow
from .phases import Steps

_NUMBERS = re.compile(r"\[\d+\]")


def step_of(path: str) -> str:
    """The step that a task's path names."""
    return _NUMBERS.sub("", path) if "[" in path else path


class Ahead:
    """The steps of one workflow. Every step stands behind those it needs."""

    def __init__(self, workflow: Workflow) -> None:
        self.needs: dict[str, tuple[str, ...]] = {}
        self.models: dict[str, str | None] = {}
        self.certain: set[str] = set()
        """Steps that every row takes."""
        self._add(workflow, "", (), True)

    @property
    def steps(self) -> Steps:
        return Steps(self.needs, self.models)

    def only(self, mine: Callable[[str, str], bool]) -> Ahead:
        """The same steps for somebody who serves some of them: told of a step and its model."""
        view = copy(self)
        view.models = {
            step: model if model is not None and mine(step, model) else None
            for step, model in self.models.items()
        }
        return view

    def behind(self, front: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The steps of the front and all that come after them, each with those of them it needs."""
        left: dict[str, tuple[str, ...]] = {}
        begun = {step for step in front if step in self.needs}
        for step, needs in self.needs.items():
            before = tuple(id for id in needs if id in left)
            if before or step in begun:
                left[step] = before
        return left

    def _add(
        self, workflow: Workflow, path: str, before: tuple[str, ...], surely: bool
    ) -> tuple[str, ...]:
        """Add a body that runs after some steps; returns its steps."""
        always = certain(workflow) if surely else set()
        added: list[str] = []
        for id, node in workflow.nodes.items():
            needs = tuple(path + other for other in node.needs()) or before
            sure = id in always
            inside: tuple[str, ...] = ()
            if isinstance(node, Map):
                inside = self._add(node.body, f"{path}{id}/", needs, sure)
            elif isinstance(node, Loop):
                inside = self._rounds(node, path + id, needs, sure)
            elif isinstance(node, Agent):
                inside = tuple(f"{path}{id}/{tool.name}" for tool in node.tools)
                for step in inside:
                    self.needs[step], self.models[step] = needs, None
            model = node.model if isinstance(node, LLMCall) else None
            self.needs[path + id], self.models[path + id] = (*needs, *inside), model
            if sure:
                self.certain.add(path + id)
            added += [*inside, path + id]
        return tuple(added)

    def _rounds(
        self, node: Loop, path: str, before: tuple[str, ...], surely: bool
    ) -> tuple[str, ...]:
        """The round a row is in, and one that may come after it."""
        added: tuple[str, ...] = ()
        for mark in ("", "'"):
            body = self._add(node.body, f"{path}{mark}/", before, surely and not mark)
            if node.until is not None:
                until = self._add(node.until, f"{path}{mark}/until/", body, surely and not mark)
                body = (*body, *until)
            added, before = (*added, *body), body or before
        return added
