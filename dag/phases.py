"""Models that take turns in memory: in which order to load them so that it happens least often.

The whole batch moves on together: while a model is there, everything that can run on it runs, for
all rows; then the next one is loaded. Running more on a model that is there never hurts, so only
the choice of the next model is open. All choices are searched, remembering what is best from every
set of finished calls; where there are too many, the model that can run most calls goes next.
"""

from __future__ import annotations

from functools import cache

from .nodes import LLMCall, Loop, Map, Node, Workflow

SEARCHED = 4_096
"""Sets of finished calls that are looked at before the choice is left to the rule of thumb."""

Done = frozenset[str]


def phases(workflow: Workflow, resident: str | None = None) -> tuple[str, ...]:
    """The models in the order in which they are loaded, fewest loads first and foremost."""
    work = _Work(workflow)
    start = work.finish(frozenset(), resident)
    try:
        return _search(work, start)
    except _TooMany:
        return _greedy(work, start)


class _TooMany(Exception):
    """More sets of finished calls than are searched."""


class _Work:
    """The nodes of a workflow as steps that each ask for one model, or for none."""

    def __init__(self, workflow: Workflow) -> None:
        self.needs: dict[str, tuple[str, ...]] = {}
        self.models: dict[str, str | None] = {}
        for id, node in workflow.nodes.items():
            *before, last = _turns(node) or (None,)
            needs = node.needs()
            for number, model in enumerate(before):  # a body that asks for several in turn
                step = f"{id}#{number}"
                self.needs[step], self.models[step] = needs, model
                needs = (step,)
            self.needs[id], self.models[id] = needs, last

    def finish(self, done: Done, resident: str | None) -> Done:
        """What is finished once everything that needs no other model has run."""
        finished = set(done)
        for id, needs in self.needs.items():  # in an order in which needs come first
            if self.models[id] in (None, resident) and finished.issuperset(needs):
                finished.add(id)
        return frozenset(finished)

    def wanted(self, done: Done) -> list[str]:
        """Models that something which is ready asks for."""
        ready = (i for i, needs in self.needs.items() if i not in done and done.issuperset(needs))
        return list(dict.fromkeys(m for id in ready if (m := self.models[id]) is not None))


def _search(work: _Work, start: Done) -> tuple[str, ...]:
    seen = 0

    @cache
    def best(done: Done) -> tuple[str, ...]:
        nonlocal seen
        seen += 1
        if seen > SEARCHED:
            raise _TooMany
        if len(done) == len(work.needs):
            return ()
        ways = ((m, *best(work.finish(done, m))) for m in work.wanted(done))
        return min(ways, key=len)

    return best(start)


def _greedy(work: _Work, done: Done) -> tuple[str, ...]:
    out: list[str] = []
    while len(done) < len(work.needs):
        ends = {model: work.finish(done, model) for model in work.wanted(done)}
        model = max(ends, key=lambda m: len(ends[m]))
        done = ends[model]
        out.append(model)
    return tuple(out)


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
