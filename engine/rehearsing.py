"""Rehearsing a batch on the models it will run on: their costs, their memory, their tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dag.estimates import Estimates
from ..dag.imagined import CHARACTERS, Frame, Imagination
from ..dag.logical import Plan
from ..dag.messages import system, user
from ..dag.numbering import Row
from ..dag.rehearsal import Stage, rehearse
from ..dag.rehearsed import Rehearsed
from .admission import BUSY
from .backends.local import LocalBackend
from .options import DEFAULT_WINDOW
from .rehearsed import Rehearsing

if TYPE_CHECKING:
    from .llm import LLM

SAMPLE = 20_000
"""Characters of the rows that are tokenized to learn how long a token is."""


def rehearse_on(
    backend: LocalBackend, plan: Plan, rows: Sequence[Sequence[Row | None]], estimates: Estimates,
    *, merging: bool = True, window: int = DEFAULT_WINDOW, disturbed: float = 1.0,
) -> Rehearsed:  # fmt: skip
    """Rehearse a plan on the models of a backend, which are loaded now if they are not."""
    llms = {alias: backend.llm(alias) for alias in plan.models}
    rehearsing = {id(llm): model_of(llm) for llm in llms.values()}
    together = backend.together(plan.models)
    stage = Stage(
        {alias: rehearsing[id(llm)] for alias, llm in llms.items()}, window=window, busy=BUSY,
        merging=merging, disturbed=disturbed, together=together,
        loads={} if together else {alias: llm.costs.load for alias, llm in llms.items()},
    )  # fmt: skip
    first = next(iter(llms.values()), None)
    texts = imagination_of(first, text_of(rows)) if first is not None else Imagination()
    return rehearse(plan, rows, estimates, stage, texts)


def model_of(llm: LLM) -> Rehearsing:
    """A model as it is, in virtual time, with an empty cache."""
    scheduler = llm._loop.scheduler
    return Rehearsing(
        llm.costs, scheduler.tree.allocator.total, scheduler.page_size, scheduler.limits
    )


def imagination_of(llm: LLM, sample: str = "") -> Imagination:
    """Texts as the model's own tokenizer reads them."""
    if not llm.has_chat_template:
        return Imagination(llm.encode, Frame(1, 0), characters_of(llm, sample))
    one, two = len(llm.encode([user("x")])), len(llm.encode([system("x"), user("x")]))
    text = len(llm.encode("x"))
    message = max(0, two - one - text)
    frame = Frame(message, max(0, one - text - message))
    return Imagination(llm.encode, frame, characters_of(llm, sample))


def characters_of(llm: LLM, sample: str) -> float:
    """Characters per token in texts like this one."""
    return len(sample) / max(1, len(llm.encode(sample))) if sample else CHARACTERS


def text_of(rows: Sequence[Sequence[Row | None]]) -> str:
    """Some of what the rows say."""
    out: list[str] = []
    size = 0
    for row in (row for part in rows for row in part):
        for value in (row or {}).values():
            out.append((value if isinstance(value, str) else str(value))[:SAMPLE])
            size += len(out[-1])
        if size > SAMPLE:
            break
    return "\n".join(out)
