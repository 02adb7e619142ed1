"""LLM calls of a rehearsal: what each asks of its model, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING

from .expected import expected
from .imagined import Imagined
from .names import counted_name
from .nodes import Agent, LLMCall
from .observed import Sketch
from .rehearsed import Outgrown
from .rehearsed_worker import Asked
from .serving import Ask, Done

if TYPE_CHECKING:
    from .rehearsal import Rehearsal
    from .rehearsed_row import Act

LATENCY = 0.001
"""Seconds between the end of a call and the begin of those that waited for it."""
ASKING = 0.0001
"""Seconds that it takes to ask for one call: of calls that can begin together the first is computed
before the others have come."""


class Calls:
    """Those of one batch, in the order in which they are asked for."""

    def __init__(self, world: Rehearsal) -> None:
        self._world = world
        self._numbers = count()
        self._free = 0.0
        """When the next call can be asked for."""
        self._answers: dict[str, Sketch] = {}
        """By the name a node is counted under."""

    def make(self, node: LLMCall, prompt: Sequence[int], first: int | None,
             answers: Sequence[Imagined], act: Act, then: Callable[[], None]) -> None:  # fmt: skip
        """One call, with these answers to its one prompt: over when the last has ended. `first`:
        see `Ask`."""
        world, name = self._world, counted_name(act.way, node.id)
        counted, began = world.counted(act, node), world.now
        most = node.sampling.max_tokens
        lengths = [max(1, min(round(answer.tokens), most)) for answer in answers]
        made_up = [
            world.imagination.made_up(("slot", answer.number, (), "", ""), length)
            for answer, length in zip(answers, lengths, strict=True)
        ]
        seen, known = world.nodes.operator(node).seen, self._answers.setdefault(name, Sketch())
        room = expected(known, seen.answers if seen is not None else None, most) or most
        ask = Ask(prompt, made_up, room, -float(act.row.rank), first)
        counted.prompt += len(prompt)
        counted.generated += sum(lengths)

        def over() -> None:
            act.row.moves(calls=-1)
            then()

        def done(end: Done) -> None:
            for length in lengths:
                known.add(length)
            counted.computed += end.computed
            counted.seconds += world.now - began
            if end.room is not None and world.found.outgrown is None:
                row, place, tokens = act.row.row, act.row.place, len(prompt) + max(lengths)
                world.found.outgrown = Outgrown(name, node.model, row, place, tokens, end.room)
            world.at(LATENCY, over)

        act.row.moves(calls=1)
        step = "/".join((*act.way, node.id))
        talk = (act, node.id) if isinstance(node, Agent) else None
        self._ask(Asked(next(self._numbers), node.model, ask, step, act.row, done, talk=talk))

    def _ask(self, asked: Asked) -> None:
        """Ask for a call behind those that are being asked for."""
        world = self._world
        delay, self._free = max(0.0, self._free - world.now), max(world.now, self._free) + ASKING
        if delay:
            world.at(delay, lambda: world.fleet.ask(asked))
        else:
            world.fleet.ask(asked)
