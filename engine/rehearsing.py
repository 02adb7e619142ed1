"""Rehearsing a batch on the models it will run on: their costs, their memory, their tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..dag.estimates import Estimates
from ..dag.imagined import Imagination
from ..dag.logical import Plan
from ..dag.numbering import Row
from ..dag.placement import Config
from ..dag.rehearsal import Stage, rehearse
from ..dag.rehearsed import Rehearsed
from ..dag.rehearsed_device import Device
from .admission import BUSY
from .backends.local import LocalBackend
from .options import DEFAULT_WINDOW
from .planning import first_models
from .rehearsed import Rehearsing
from .rehearsed_dispatch import RehearsedDispatch
from .texts import characters_of, frame_of, reader, sample_of

if TYPE_CHECKING:
    from .llm import LLM


def rehearse_on(
    backend: LocalBackend, plan: Plan, rows: Sequence[Sequence[Row | None]], estimates: Estimates,
    *, merging: bool = True, window: int = DEFAULT_WINDOW, disturbed: float = 1.0,
    devices: Sequence[str] = (),
) -> Rehearsed:  # fmt: skip
    """Rehearse a plan on the models of a backend, which are loaded now if they are not.

    With several `devices`, on a worker on each: alike to this backend, with the plan's placement
    and the policies of real workers, and without models but the first one.
    """
    llms = {alias: backend.llm(alias) for alias in plan.models}
    first = next(iter(llms.values()), None)
    sample = sample_of(row for part in rows for row in part)
    texts = imagination_of(first, sample) if first is not None else Imagination()
    several = len(devices) > 1 and first is not None
    stage = Stage(
        devices=_workers(backend, plan, llms, devices) if several else [_alone(backend, llms)],
        dispatch=_dispatch(backend, plan, llms, len(devices), texts) if several else None,
        window=window, busy=BUSY, merging=merging, disturbed=disturbed,
    )  # fmt: skip
    return rehearse(plan, rows, estimates, stage, texts)


def _alone(backend: LocalBackend, llms: Mapping[str, LLM]) -> Device:
    """The one worker, whose models are there if they fit together."""
    device = _device(backend, llms)
    if backend.together(list(llms)):
        return replace(device, there=None, limit=None)
    return device


def opened(backend: LocalBackend, plan: Plan, workers: int) -> Config:
    """What workers hold when a run places its models: the first one has the first model."""
    first = first_models(*(part.workflow for part in plan.parts))[0]
    return frozenset({backend.shelf().name(first)}), *[frozenset[str]()] * (workers - 1)


def _workers(
    backend: LocalBackend, plan: Plan, llms: Mapping[str, LLM], devices: Sequence[str]
) -> list[Device]:
    """A worker on each device as a run finds it, and then what the plan places is loaded, or
    everything that fits where it places nothing."""
    start: Config = (frozenset[str](),) * len(devices)
    if plan.placement is not None:
        start = plan.placement.stages[0].models
    threads = {name: number for number, name in enumerate(dict.fromkeys(devices))}
    there = opened(backend, plan, len(devices))
    return [
        replace(_device(backend, llms), there=has, start=held, processor=threads[name])
        for name, has, held in zip(devices, there, start, strict=True)
    ]


def _device(backend: LocalBackend, llms: Mapping[str, LLM]) -> Device:
    """A worker with empty models, none of which is loaded."""
    shelf = backend.shelf()
    empty = {id(llm): model_of(llm) for llm in llms.values()}
    names = {alias: shelf.name(alias) for alias in llms}
    measured = shelf.seconds()
    return Device(
        {alias: empty[id(llm)] for alias, llm in llms.items()}, names, frozenset(), shelf.sizes(),
        shelf.limit, {names[a]: measured[names[a]] or m.costs.load for a, m in llms.items()},
    )  # fmt: skip


def _dispatch(
    backend: LocalBackend, plan: Plan, llms: Mapping[str, LLM], workers: int, texts: Imagination
) -> RehearsedDispatch:
    names = {alias: backend.shelf().name(alias) for alias in llms}
    costs = {names[alias]: llm.costs for alias, llm in llms.items()}
    room = {names[alias]: llm.kv_tokens for alias, llm in llms.items()}
    return RehearsedDispatch(workers, plan, names, costs, room, texts.characters)


def model_of(llm: LLM) -> Rehearsing:
    """A model as it is, in virtual time, with an empty cache."""
    scheduler = llm._loop.scheduler
    return Rehearsing(
        llm.costs, scheduler.tree.allocator.total, scheduler.page_size, scheduler.limits,
        llm.host_tokens // scheduler.page_size,
    )  # fmt: skip


def imagination_of(llm: LLM, sample: str = "") -> Imagination:
    """Texts as the model's own tokenizer reads them, in prompts as its chat template makes them."""
    return Imagination(reader(llm), frame_of(llm), characters_of(llm, sample))
