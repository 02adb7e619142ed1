"""Where plans have placed models: which workers a call may be given to, and what each of them is
still to be asked.

A placement holds until the run that it was followed for has ended. Runs at the same time have their
own; calls are known by their node and model, so where two runs have the same, a call may go to the
workers of either.
"""

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


_Key = tuple[str, str]
"""A node of a workflow, and a model."""


@dataclass(slots=True)
class _Home:
    """Where a plan has calls of one node made by one model."""

    workers: frozenset[int]
    left: float
    """Calls that are still to come; infinite where the plan does not know."""


class Homes:
    """Workers by node of a workflow and model, as the placements say that are followed now."""

    def __init__(self) -> None:
        self._followed: list[tuple[Placement, dict[_Key, _Home]]] = []
        self._names: dict[str, str] = {}
        self._views: WeakKeyDictionary[Ahead, dict[int, Ahead]] = WeakKeyDictionary()

    def follow(
        self, placement: Placement, names: Mapping[str, str], plan: Plan | None = None
    ) -> None:
        """Give the steps of a placement their workers, until it has `ended`. `names`: the model of
        an alias; `plan`: what is placed, as far as its calls are counted."""
        found: dict[_Key, frozenset[int]] = {}
        for stage in placement.stages:
            for step in stage.steps:
                node = step.partition(":")[2].partition("#")[0]
                for model in frozenset().union(*stage.models):
                    holders = {w for w, held in enumerate(stage.models) if model in held}
                    found[node, model] = found.get((node, model), frozenset()) | holders
        self._names |= names
        self._views.clear()
        calls = dict.fromkeys(found, inf) if plan is None else self._calls(plan)
        homes = {key: _Home(workers, calls.get(key, 0.0)) for key, workers in found.items()}
        self._followed.append((placement, homes))

    def ended(self, placement: Placement) -> None:
        """What it was followed for has ended: no more calls of it will come."""
        self._followed = [(p, homes) for p, homes in self._followed if p is not placement]
        self._views.clear()

    def of(self, model: str, path: str) -> frozenset[int] | None:
        """The workers of a call at a path such as `notes[3]/look`; None when no plan says any."""
        found = [home.workers for home in self._homes(model, path)]
        return frozenset().union(*found) if found else None

    def _calls(self, plan: Plan) -> dict[_Key, float]:
        """Calls of every node to its models; of bodies and agents nobody knows how many."""
        calls: dict[_Key, float] = {}
        for part in plan.parts:
            for step, model in steps_of(part.workflow).models.items():
                if model is not None:
                    calls[self._key(model, step.partition("#")[0])] = inf
        counted: Counter[_Key] = Counter()
        for leaf in plan.prefixes.leaves if plan.prefixes is not None else ():
            if "/" not in leaf.name and not isinstance(leaf.call, Agent):
                counted[self._key(leaf.call.model, leaf.name)] += leaf.calls
        return {**calls, **counted}

    def answered(self, model: str, path: str) -> None:
        """A call at a path is over."""
        home = next((home for home in self._homes(model, path) if home.left > 0), None)
        if home is not None:
            home.left -= 1

    def asked(self, model: str, worker: int) -> bool:
        """Whether a plan will ask a worker for a model that it is placed on; as far as is known."""
        return any(
            key[1] == model and worker in home.workers and home.left > 0
            for _, homes in self._followed for key, home in homes.items()
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

    def _homes(self, model: str, path: str) -> list[_Home]:
        """Those of a call at a path, by the placements that are followed."""
        key = self._key(model, path)
        return [homes[key] for _, homes in self._followed if key in homes]

    def _key(self, model: str, path: str) -> _Key:
        return _BODY.sub("", path), self._names.get(model, model)
