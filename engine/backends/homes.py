"""Where a plan has placed models: which workers a call may be given to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from ...dag.ahead import Ahead
from ...dag.placement import Placement

_BODY = re.compile(r"[\[/].*")


class Homes:
    """Workers by node of a workflow and model, as the placements that were followed last say."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], frozenset[int]] = {}
        self._names: dict[str, str] = {}
        self._views: WeakKeyDictionary[Ahead, dict[int, Ahead]] = WeakKeyDictionary()

    def follow(self, placement: Placement, names: Mapping[str, str]) -> None:
        """Give the steps of a placement their workers. `names`: the model of an alias."""
        found: dict[tuple[str, str], frozenset[int]] = {}
        for stage in placement.stages:
            for step in stage.steps:
                node = step.partition(":")[2].partition("#")[0]
                for model in frozenset().union(*stage.models):
                    holders = {w for w, held in enumerate(stage.models) if model in held}
                    found[node, model] = found.get((node, model), frozenset()) | holders
        self._workers |= found
        self._names |= names
        self._views.clear()

    def of(self, model: str, path: str) -> frozenset[int] | None:
        """The workers of a call at a path such as `notes[3]/look`; None when no plan says any."""
        return self._workers.get((_BODY.sub("", path), self._names.get(model, model)))

    def view(self, ahead: Ahead, worker: int) -> Ahead:
        """What lies ahead, as far as it is placed on one worker: it shall not load the rest."""
        views = self._views.setdefault(ahead, {})
        if worker not in views:

            def mine(step: str, model: str) -> bool:
                placed = self.of(model, step)
                return placed is None or worker in placed

            views[worker] = ahead.only(mine)
        return views[worker]
