"""A batch in virtual time: what its programs would ask for, when, and when they would have it.

Rows start in the plan's order, a window of them at a time; nodes start when their values are there;
equal work is done once; tools take the time they have taken; models take steps of calibrated
length, with the engine's own scheduler and prefix tree behind `Serving`. Nothing is run, and no
clock is read: the same plan and estimates give the same answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from .ahead import Ahead
from .dispatching import Dispatching
from .estimates import Estimates
from .identity import row_id
from .imagined import Imagination, Imagined
from .logical import Plan, positions
from .names import counted_name
from .nodes import LLMCall, Node, ToolCall
from .numbering import Row
from .rehearsed import Rehearsed, Tasks
from .rehearsed_calls import Calls
from .rehearsed_device import Device
from .rehearsed_fleet import Fleet
from .rehearsed_heads import Heads
from .rehearsed_nodes import Nodes
from .rehearsed_row import Act
from .rehearsed_values import Values
from .serving import Serving
from .standing import Room, Standing
from .template import Template


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a rehearsal takes place."""

    models: Mapping[str, Serving] = field(default_factory=dict)
    """By alias, of one worker that has all of them; see `Device.models`."""
    devices: Sequence[Device] = ()
    """Workers that have not, or several."""
    dispatch: Dispatching | None = None
    """Who divides calls between several workers."""
    window: int = 2_048
    """Most rows under way that are not parked; see `Room`."""
    busy: int = 256
    """Most rows under way that do not rest."""
    merging: bool = True
    """Whether equal work is done once."""
    disturbed: float = 1.0
    """Seconds that a step takes for every second that it should."""

    @property
    def workers(self) -> Sequence[Device]:
        return self.devices or (Device(self.models),)


class Rehearsal:
    """One batch, from its first row to its last."""

    def __init__(
        self, plan: Plan, rows: Sequence[Sequence[Row | None]], estimates: Estimates, stage: Stage,
        imagination: Imagination | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.rows, self.stage = plan, rows, stage
        self.imagination = imagination or Imagination()
        self.nodes = Nodes(estimates, self.imagination, plan.names)
        self.values = Values(self.nodes, self.imagination)
        self.found = Rehearsed()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._flights: dict[Hashable, Imagined | list[Callable[[Imagined], None]]] = {}
        self._source = iter(
            (number, place) for number, part in enumerate(plan.parts) for place in positions(part)
        )  # fmt: skip
        self._ranks = count()
        self._room = Room(stage.window, stage.busy)
        self._admitting = False
        several = len(plan.models) > 1
        self._ahead = [Ahead(part.workflow) if several else None for part in plan.parts]
        self.fleet, self.heads, self.calls = Fleet(self), Heads(self), Calls(self)

    def run(self) -> Rehearsed:
        """Rehearse."""
        self.fleet.start(self._admit)
        last = 0.0
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            if not self.fleet.busy and self._room.rows:
                self.found.waited += self.now - last
            last = self.now
            action()
        self.found.busy, self.found.loading = self.fleet.seconds()
        self.found.used = self.fleet.used()
        return self.found

    # -- rows ----------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Let rows begin while there is room."""
        if self._admitting:
            return  # a row that has just begun made room; the loop below sees it
        self._admitting = True
        while self._room.left() and (following := next(self._source, None)) is not None:
            number, place = following
            row = self.rows[number][place]
            if row is not None:
                self._begin(number, row, place)
        self._admitting = False

    def _begin(self, part: int, row: Row, place: int) -> None:
        workflow = self.plan.parts[part].workflow
        self.found.rows += 1
        self._room.rows += 1
        given = self.imagination.given
        inputs = {i.id: given(row.get(i.id, i.default)) for i in workflow.inputs}

        def ended(_: Imagined) -> None:
            self._room.rows -= 1
            self.found.seconds = self.now
            self._admit()

        known = row_id(row, place)
        standing = Standing(next(self._ranks), self._room, known, place, self._ahead[part])
        Act(self, workflow, inputs, (), standing, ended).start()

    def moves(self, row: Standing, calls: int = 0, tools: int = 0, others: int = 0) -> None:
        row.moves(calls, tools, others)
        self._admit()

    # -- work, as acts ask for it --------------------------------------------------------------

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def share(self, node: Node, key: Hashable | None, act: Act,
              work: Callable[[Callable[[Imagined], None]], None],
              then: Callable[[Imagined], None]) -> None:  # fmt: skip
        """Do work once for all who ask for it under one key; None is never shared."""
        counts = isinstance(node, LLMCall | ToolCall)
        if counts:
            self.counted(act, node).calls += 1
        if key is None or not self.stage.merging:
            work(then)
            return
        flight = self._flights.get(key)
        if flight is None:
            waiting: list[Callable[[Imagined], None]] = [then]
            self._flights[key] = waiting

            def landed(value: Imagined) -> None:
                self._flights[key] = value
                for waiter in waiting:
                    waiter(value)

            work(landed)
            return
        if counts:
            self.counted(act, node).merged += 1
        if not isinstance(flight, list):
            landing = flight
            self.at(0.0, lambda: then(landing))  # not from here: chains of equal work are long
            return

        def arrived(value: Imagined) -> None:
            act.row.moves(others=-1)
            then(value)

        flight.append(arrived)
        self.moves(act.row, others=1)

    def counted(self, act: Act, node: Node) -> Tasks:
        return self.found.nodes.setdefault(counted_name(act.way, node.id), Tasks())

    def use(self, node: ToolCall, value: Imagined, act: Act,
            then: Callable[[Imagined], None]) -> None:  # fmt: skip
        """One tool call, whose result is this value."""
        seconds = self.values.seconds(node)
        self.counted(act, node).seconds += seconds
        ahead, step = act.row.ahead, "/".join((*act.way, node.id))
        self.fleet.at_work(ahead, step, True)

        def over() -> None:
            act.row.moves(tools=-1)
            self.fleet.at_work(ahead, step, False)
            then(value)

        self.at(seconds, over)
        self.moves(act.row, tools=1)

    def first(self, node: LLMCall, values: Mapping[str, Imagined]) -> int | None:
        """Tokens up to the end of a prompt's first message, if workers are told calls by that."""
        if self.stage.dispatch is None or not isinstance(node.prompt, Template):
            return None
        return self.imagination.first(node.prompt, values)


def rehearse(
    plan: Plan, rows: Sequence[Sequence[Row | None]], estimates: Estimates, stage: Stage,
    imagination: Imagination | None = None,
) -> Rehearsed:  # fmt: skip
    """Rehearse a plan for these rows, those of each of its parts."""
    return Rehearsal(plan, rows, estimates, stage, imagination).run()
