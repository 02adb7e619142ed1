"""A batch in virtual time, on a memory that holds only some of its models."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from plait.dag.ahead import Ahead
from plait.dag.arg import Ref, Seq
from plait.dag.nodes import Input, LLMCall, ToolCall, ToolSpec, Workflow
from plait.dag.sampling import Sampling
from plait.dag.template import Template, Text
from plait.dag.turns import Decision, Place, Turns


def random_workflow(seed: int, *, tools: float = 0.0, models: str = "abcd") -> Workflow:
    """Up to nine calls of up to four models (some of them tools), each needing some before it."""
    rng = random.Random(seed)
    nodes: dict[str, Any] = {"topic": Input(id="topic", type=str)}
    for number in range(rng.randint(1, 9)):
        needs = rng.sample(list(nodes), min(len(nodes), rng.randint(1, 2)))
        id, bound = f"n{number}", tuple((need, Ref(need)) for need in needs)
        if rng.random() < tools:
            nodes[id] = ToolCall(id=id, tool=ToolSpec("t", "pure"), bound=bound, type=str)
            continue
        nodes[id] = LLMCall(
            id=id, name="n", prompt=Template((Text("user", ("x",)),)), bound=bound,
            sampling=Sampling(), model=rng.choice(models), type=str,
        )  # fmt: skip
    return Workflow("random", nodes, Seq(tuple(Ref(id) for id in nodes)))


def fewest(workflow: Workflow, room: int = 1) -> int:
    """Least loads, over all ways to run one node at a time and to load and unload one model."""
    nodes = {id: n for id, n in workflow.nodes.items() if not isinstance(n, Input)}
    start: tuple[frozenset[str], frozenset[str]] = (frozenset({"topic"}), frozenset())
    loads, queue = {start: 0}, deque([start])
    while queue:  # 0-1 search: running is free, loading costs one
        state = queue.popleft()
        done, there = state
        if len(done) == len(workflow.nodes):
            return loads[state]
        free = [
            (done | {id}, there) for id, node in nodes.items()
            if id not in done and done.issuperset(node.needs())
            and (not isinstance(node, LLMCall) or node.model in there)
        ]  # fmt: skip
        for following in free:
            if loads[state] < loads.get(following, 99):
                loads[following] = loads[state]
                queue.appendleft(following)
        for model in {n.model for n in nodes.values() if isinstance(n, LLMCall)} - there:
            for gone in [frozenset[str](), *(frozenset({m}) for m in there)]:
                left = there - gone | {model}
                if len(left) <= room and loads[state] + 1 < loads.get((done, left), 99):
                    loads[done, left] = loads[state] + 1
                    queue.append((done, left))
    raise AssertionError("nothing ends")


@dataclass
class Sim:
    """Rows of one workflow. `seconds(row, node)` is how long a call or a tool takes."""

    workflow: Workflow
    rows: int
    room: int
    seconds: Callable[[int, str], float]
    planned: bool = True
    fails: Callable[[int, str], bool] = lambda row, id: False
    load_seconds: Mapping[str, float] = field(default_factory=dict)
    clock: float = 0.0
    loads: list[str] = field(default_factory=list)
    why: list[Decision] = field(default_factory=list)

    def run(self) -> int:
        """Run all rows; how many have failed."""
        models = {n.model for n in self.workflow.nodes.values() if isinstance(n, LLMCall)}
        self.turns = Turns(dict.fromkeys(models, 1), self.room, self.load_seconds)
        self.ahead = Ahead(self.workflow) if self.planned else None
        self.there: set[str] = set()
        self.moving: str | None = None
        self.order = count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        given = [node.id for node in self.workflow.inputs]
        self.done = [set(given) for _ in range(self.rows)]
        self.begun = [set(given) for _ in range(self.rows)]
        self.waiting: list[tuple[int, str, Place]] = []
        self.failed: set[int] = set()
        for row in range(self.rows):
            self.advance(row)
        self.decide()
        while self.events:
            self.clock, _, happens = heapq.heappop(self.events)
            happens()
            self.decide()
        for row in range(self.rows):
            ended = len(self.done[row]) == len(self.workflow.nodes) or row in self.failed
            assert ended, f"row {row} hangs: {self.turns.decide(frozenset(self.there), 1e9)}"
        return len(self.failed)

    def at(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.clock + seconds, next(self.order), happens))

    def advance(self, row: int) -> None:
        for id, node in self.workflow.nodes.items():
            if id in self.begun[row] or not self.done[row].issuperset(node.needs()):
                continue
            self.begun[row].add(id)
            model = node.model if isinstance(node, LLMCall) else None
            place = Place(id if self.planned else f"calls to {model}", model, self.ahead)
            if model is None or model in self.there:
                self.start(row, id, place)
            else:
                self.turns.waits(place)
                self.waiting.append((row, id, place))

    def start(self, row: int, id: str, place: Place) -> None:
        self.turns.begins(place)
        self.at(self.seconds(row, id), lambda: self.end(row, id, place))

    def end(self, row: int, id: str, place: Place) -> None:
        self.turns.ends(place, self.clock)
        if self.fails(row, id):
            self.failed.add(row)
            for waiting in [w for w in self.waiting if w[0] == row]:
                self.turns.goes_on(waiting[2])
                self.waiting.remove(waiting)
        self.done[row].add(id)
        if row not in self.failed:
            self.advance(row)

    def decide(self) -> None:
        if self.moving is not None:
            return
        decision = self.turns.decide(frozenset(self.there), self.clock)
        move = decision.move
        if move is None:
            if decision.wait is not None:
                self.at(decision.wait + 1e-6, lambda: None)
            return
        self.why.append(decision)
        assert self.there.issuperset(move.unload) and move.load not in self.there
        self.there.difference_update(move.unload)
        assert len(self.there) < self.room, "a model that fits nowhere"
        self.moving = move.load
        self.at(self.load_seconds.get(move.load, 1.0), lambda: self.loaded(move.load))

    def loaded(self, model: str) -> None:
        self.moving = None
        self.there.add(model)
        self.loads.append(model)
        ready = [w for w in self.waiting if w[2].model == model]
        self.waiting = [w for w in self.waiting if w[2].model != model]
        for row, id, place in ready:
            self.turns.goes_on(place)
            self.start(row, id, place)
