"""How near to the best a plan is: its calls at once, as if all prompts had been known beforehand.

A plan decides which calls are made and in which order, but a prompt is known only when the answers
and the tool results in it are there. Here a run of the plan notes what its models are asked, each
different call once. Then a new engine is asked all of it at once, sorted by prompts, so that those
that begin alike lie together; no answer and no tool is waited for. The seconds of that are about
the least that any plan can take on this engine; the baseline's over them, the most it can gain.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from plait.dag.messages import Message
from plait.dag.sampling import Sampling
from plait.engine.backends.backend import Call
from plait.engine.backends.local import LocalBackend

BEFOREHAND = "known beforehand"


@dataclass(slots=True)
class Asked:
    """What models were asked in a run, and the texts they gave."""

    calls: list[Call] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)


class NotingBackend(LocalBackend):
    """A local backend that notes its calls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = Asked()

    async def generate(self, call: Call) -> list[Any]:
        done = await super().generate(call)
        self.asked.calls.append(call)
        self.asked.texts.append([one.text for one in done])
        return done


def ask_at_once(backend: LocalBackend, asked: Asked) -> None:
    """Every call at once. Raises AssertionError when an answer differs from the noted one."""
    texts = asyncio.run(_gather(backend, asked.calls))
    assert texts == asked.texts, "known beforehand, calls were answered differently"


async def _gather(backend: LocalBackend, calls: list[Call]) -> list[list[str]]:
    order = sorted(range(len(calls)), key=lambda i: (calls[i].model, _begins(calls[i])))
    first = {number: float(-place) for place, number in enumerate(order)}
    bare = (_bare(call, first[number]) for number, call in enumerate(calls))
    done = await asyncio.gather(*(backend.generate(call) for call in bare))
    return [[one.text for one in each] for each in done]


def _bare(call: Call, priority: float) -> Call:
    """The call without the run that asked it."""
    sampling: Sampling = call.sampling
    return Call(call.prompt, sampling, call.model, call.seed, call.tools, priority, raw=call.raw)


def _begins(call: Call) -> list[str]:
    """What a prompt begins with, to sort it by."""
    if isinstance(call.prompt, str):
        return [call.prompt]
    return [part.content if isinstance(part, Message) else str(part) for part in call.prompt]
