"""Where a plan has placed models: which workers a call may be given to, and what each of them is
still to be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from weakref import WeakKeyDictionary

from ..dag.ahead import Ahead
from ..dag.logical import Plan
from ..dag.nodes import Agent
from ..dag.phases import steps_of
from ..dag.placement import Placement

_BODY = re.compile(r"[\[/].*")


@dataclass(slots=True)
class _Left:
    """Calls that a plan has left to make."""

    of: Placement
    """Whose calls these are."""
    calls: float
    """Infinite where the plan does not know."""


class Homes:
    """Workers by node of a workflow and model, as the placements that were followed last say."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], frozenset[int]] = {}
        self._names: dict[str, str] = {}
        self._views: WeakKeyDictionary[Ahead, dict[int, Ahead]] = WeakKeyDictionary()
        self._left: dict[tuple[str, str], _Left] = {}

    def follow(
        self, placement: Placement, names: Mapping[str, str], plan: Plan | None = None
    ) -> None:
        """Give the steps of a placement their workers. `names`: the model of an alias; `plan`: what
        is placed, as far as its calls are counted."""
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
        calls = dict.fromkeys(found, inf) if plan is None else self._calls(plan)
        self._left |= {key: _Left(placement, count) for key, count in calls.items()}

    def ended(self, placement: Placement) -> None:
        """What it was followed for has ended: calls that have not come will not."""
        self._left = {k: left for k, left in self._left.items() if left.of is not placement}

    def of(self, model: str, path: str) -> frozenset[int] | None:
        """The workers of a call at a path such as `notes[3]/look`; None when no plan says any."""
        return self._workers.get(self._key(model, path))

    def _calls(self, plan: Plan) -> dict[tuple[str, str], float]:
        """Calls of every node to its models; of bodies and agents nobody knows how many."""
        calls: dict[tuple[str, str], float] = {}
        for part in plan.parts:
            for step, model in steps_of(part.workflow).models.items():
                if model is not None:
                    calls[self._key(model, step.partition("#")[0])] = inf
        counted: Counter[tuple[str, str]] = Counter()
        for leaf in plan.prefixes.leaves if plan.prefixes is not None else ():
            if "/" not in leaf.name and not isinstance(leaf.call, Agent):
                counted[self._key(leaf.call.model, leaf.name)] += leaf.calls
        return {**calls, **counted}

    def answered(self, model: str, path: str) -> None:
        """A call at a path is over."""
        left = self._left.get(self._key(model, path))
        if left is not None:
            left.calls -= 1

    def asked(self, model: str, worker: int) -> bool:
        """Whether a plan will ask a worker for a model that it is placed on; as far as is known."""
        return any(
            worker in workers and (left := self._left.get(key)) is not None and left.calls > 0
            for key, workers in self._workers.items() if key[1] == model
        )  # fmt: skip

    def view(self, ahead: Ahead, worker: int) -> Ahead:
        """What lies ahead, as far as it is placed on one worker: it shall not load the rest."""
        views = self._views.setdefault(ahead, {})
        if worker not in views:

            def mine(step: str, model: str) -> bool:
                placed = self.of(model, step)
                return placed is None or worker in placed

            views[worker] = ahead.only(mine)
        return views[worker]

    def _key(self, model: str, path: str) -> tuple[str, str]:
        return _BODY.sub("", path), self._names.get(model, model)
