"""Models that take turns in memory: which to load next so that it happens least often.

The whole batch moves on together: while models are there, everything that can run on them runs, for
all rows; then another is loaded. Running more on a model that is there never hurts, so only two
choices are open: which model comes next, and which make room for it. All choices are searched,
remembering what is best from every pair of (finished steps, models there); where there are too
many, the model that lets most steps finish goes next, and what is wanted latest makes room.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from .nodes import LLMCall, Loop, Map, Node, Workflow

SEARCHED = 4_096
"""Pairs that are looked at before the choice is left to the rule of thumb."""

Done = frozenset[str]
Models = frozenset[str]
Fits = Callable[[Models], bool]
"""Whether these models are in memory together."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Work that asks for models, and what it comes after."""

    needs: Mapping[str, tuple[str, ...]]
    """By step, the steps before it; steps stand behind those they need."""
    models: Mapping[str, str | None]
    """By step, its model; None for what runs without one."""

    @property
    def begun(self) -> Done:
        """What is finished before any model is there."""
        return self.finish(frozenset(), frozenset())

    def finish(self, done: Done, resident: Models) -> Done:
        """What is finished once everything has run that asks for no model but these."""
        finished = set(done)
        for id, needs in self.needs.items():
            model = self.models[id]
            if (model is None or model in resident) and finished.issuperset(needs):
                finished.add(id)
        return frozenset(finished)

    def wanted(self, done: Done) -> list[str]:
        """Models that something which is ready asks for."""
        ready = (i for i, needs in self.needs.items() if i not in done and done.issuperset(needs))
        return list(dict.fromkeys(m for id in ready if (m := self.models[id]) is not None))


@dataclass(frozen=True, slots=True)
class Move:
    """One model is loaded, others make room for it."""

    load: str
    unload: tuple[str, ...] = ()


def one_at_a_time(models: Models) -> bool:
    """The memory of which least is known: it holds one model."""
    return len(models) <= 1


def phases(*workflows: Workflow, resident: Collection[str] = ()) -> tuple[str, ...]:
    """The models of workflows that run together in the order in which they are loaded, fewest loads
    first and foremost, where one model fits into memory at a time."""
    found = moves(together(map(steps_of, workflows)), frozenset(resident))
    return tuple(move.load for move in found)


def moves(
    steps: Steps, resident: Models = frozenset(), fits: Fits = one_at_a_time, *,
    first: Collection[str] | None = None, go: Sequence[str] = (), searched: int | None = None,
) -> tuple[Move, ...]:  # fmt: skip
    """The fewest moves after which all steps are finished.

    `first`: the models of which one is loaded first; else whatever is wanted. `go`: models in the
    order in which they had better go where the number of moves is the same.
    """
    done = steps.finish(frozenset(), resident)
    search = _Search(steps, fits, go, SEARCHED if searched is None else searched)
    return search.run(done, resident, steps.wanted(done) if first is None else first)


class _TooMany(Exception):
    """More pairs than are searched."""


class _Search:
    def __init__(self, steps: Steps, fits: Fits, go: Sequence[str], searched: int) -> None:
        self.steps, self.fits, self.go, self.searched = steps, fits, go, searched
        self.known: dict[tuple[Done, Models], tuple[Move, ...]] = {}

    def run(self, done: Done, there: Models, first: Collection[str]) -> tuple[Move, ...]:
        try:
            return self.shortest(done, there, first)
        except (_TooMany, RecursionError):
            return tuple(self.thumb(done, there, first))

    def shortest(self, done: Done, there: Models, first: Collection[str]) -> tuple[Move, ...]:
        """The best of the ways that begin with one of these models."""
        ways = []
        for model in first:
            for out in make_room(model, there, self.fits, self.go):
                then = there.difference(out) | {model}
                ways.append((Move(model, out), *self.best(self.steps.finish(done, then), then)))
        return min(ways, key=len, default=())

    def best(self, done: Done, there: Models) -> tuple[Move, ...]:
        known = self.known.get((done, there))
        if known is None:
            if len(self.known) >= self.searched:
                raise _TooMany
            known = self.shortest(done, there, self.steps.wanted(done))
            self.known[done, there] = known
        return known

    def thumb(self, done: Done, there: Models, first: Collection[str]) -> Iterator[Move]:
        wanted = list(first)
        while wanted:
            ends = {model: self.steps.finish(done, there | {model}) for model in wanted}
            model = max(ends, key=lambda m: len(ends[m]))
            soon = self.steps.wanted(ends[model])
            outs = make_room(model, there, self.fits, self.go)
            out = min(outs, key=lambda out: sum(m in soon for m in out))
            there = there.difference(out) | {model}
            done = self.steps.finish(done, there)
            wanted = self.steps.wanted(done)
            yield Move(model, out)


def make_room(
    model: str, resident: Models, fits: Fits, go: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """The smallest sets of models that can go so that this one fits; all where it never does."""
    found: list[tuple[str, ...]] = []
    known = {model: place for place, model in enumerate(go)}
    there = sorted(sorted(resident), key=lambda m: known.get(m, len(known)))
    for count in range(len(there) + 1):
        short = False
        for out in combinations(there, count):
            if any(set(out).issuperset(smaller) for smaller in found):
                continue
            if fits(resident.difference(out) | {model}):
                found.append(out)
            else:
                short = True
        if not short:
            break  # whatever is larger holds one of those found
    return found or [tuple(sorted(resident))]


def together(parts: Iterable[Steps]) -> Steps:
    """The steps of several workflows that run at the same time."""
    needs: dict[str, tuple[str, ...]] = {}
    models: dict[str, str | None] = {}
    for number, part in enumerate(parts):
        for id, before in part.needs.items():
            needs[f"{number}:{id}"] = tuple(f"{number}:{other}" for other in before)
            models[f"{number}:{id}"] = part.models[id]
    return Steps(needs, models)


def steps_of(workflow: Workflow) -> Steps:
    """The nodes of a workflow as steps that each ask for one model, or for none."""
    steps: dict[str, tuple[str, ...]] = {}
    models: dict[str, str | None] = {}
    for id, node in workflow.nodes.items():
        *before, last = _turns(node) or (None,)
        needs = node.needs()
        for number, model in enumerate(before):  # a body that asks for several in turn
            step = f"{id}#{number}"
            steps[step], models[step] = needs, model
            needs = (step,)
        steps[id], models[id] = needs, last
    return Steps(steps, models)


def _turns(node: Node) -> tuple[str, ...]:
    """Models that a node asks for, one after the other."""
    if isinstance(node, LLMCall):
        return (node.model,)
    if isinstance(node, Map):
        return phases(node.body)
    if isinstance(node, Loop):
        until = phases(node.until) if node.until is not None else ()
        return (phases(node.body) + until) * node.max_iters
    return ()
