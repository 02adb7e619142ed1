"""Rehearsing a batch on the models it will run on: their costs, their memory, their tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..dag.estimates import Estimates
from ..dag.imagined import Imagination
from ..dag.logical import Plan
from ..dag.numbering import Row
from ..dag.placement import Config
from ..dag.profile import Costs
from ..dag.rehearsal import Stage, rehearse
from ..dag.rehearsed import Rehearsed
from ..dag.rehearsed_device import Device
from .admission import BUSY
from .backends.local import LocalBackend
from .options import DEFAULT_WINDOW
from .planning import first_models
from .rehearsed_dispatch import RehearsedDispatch
from .rehearsed_model import RehearsedModel
from .texts import characters_of, frame_of, reader, sample_of

if TYPE_CHECKING:
    from .llm import LLM
    from .llm.shelf import Shelf

Fresh = Callable[[], Mapping[str, RehearsedModel]]
"""Gives models by alias, with empty caches."""


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
    shelf, fresh = backend.shelf(), partial(empty, llms)
    given = Stage(window=window, busy=BUSY, merging=merging, disturbed=disturbed)
    if len(devices) > 1 and first is not None:
        there = opened(backend, plan, len(devices))
        stage = fleet_of(plan, shelf, fresh, there, devices, texts, given)
    else:
        stage = replace(given, devices=[_alone(backend, fresh())])
    return rehearse(plan, rows, estimates, stage, texts)


def _alone(backend: LocalBackend, models: Mapping[str, RehearsedModel]) -> Device:
    """The one worker, whose models are there if they fit together."""
    device = _device(backend.shelf(), models)
    if backend.together(list(models)):
        return replace(device, there=None, limit=None)
    return device


def opened(backend: LocalBackend, plan: Plan, workers: int) -> Config:
    """What workers hold when a run places its models: the first one has the first model."""
    first = first_models(*(part.workflow for part in plan.parts))[0]
    return frozenset({backend.shelf().name(first)}), *[frozenset[str]()] * (workers - 1)


def fleet_of(
    plan: Plan, shelf: Shelf[LLM], fresh: Fresh, there: Config, devices: Sequence[str],
    texts: Imagination, given: Stage,
) -> Stage:  # fmt: skip
    """A stage with a worker on each device, which holds what is `there` and then loads what the
    plan places, or what is asked of it where it places nothing. Workers are alike: `shelf` says
    what models take. The rest is as `given`."""
    start: Config = (frozenset[str](),) * len(devices)
    if plan.placement is not None:
        start = plan.placement.stages[0].models
    threads = {name: number for number, name in enumerate(dict.fromkeys(devices))}
    models_of = [fresh() for _ in devices]
    workers = [
        replace(_device(shelf, models), there=has, start=held, processor=threads[name])
        for name, models, has, held in zip(devices, models_of, there, start, strict=True)
    ]
    names = workers[0].names
    models = {names[alias]: model for alias, model in models_of[0].items()}
    dispatch = RehearsedDispatch(
        len(devices), plan, names, {name: model.costs for name, model in models.items()},
        {name: model.kv_tokens for name, model in models.items()}, texts.characters,
    )  # fmt: skip
    return replace(given, devices=workers, dispatch=dispatch)


def _device(shelf: Shelf[LLM], models: Mapping[str, RehearsedModel]) -> Device:
    """A worker with empty models, none of which is loaded."""
    names = {alias: shelf.name(alias) for alias in models}
    measured = shelf.seconds()
    loads = {names[a]: measured[names[a]] or m.costs.load for a, m in models.items()}
    return Device(models, names, frozenset(), shelf.sizes(), shelf.limit, loads)


def empty(llms: Mapping[str, LLM]) -> dict[str, RehearsedModel]:
    """Models by alias as they are, with empty caches."""
    models = {id(llm): model_of(llm) for llm in llms.values()}
    return {alias: models[id(llm)] for alias, llm in llms.items()}


def model_of(llm: LLM, costs: Costs | None = None) -> RehearsedModel:
    """A model as it is, in virtual time, with an empty cache; or one like it that has these
    costs."""
    scheduler = llm._loop.scheduler
    return RehearsedModel(
        costs or llm.costs, scheduler.tree.allocator.total, scheduler.page_size, scheduler.limits,
        llm.host_tokens // scheduler.page_size,
    )  # fmt: skip


def imagination_of(llm: LLM, sample: str = "") -> Imagination:
    """Texts as the model's own tokenizer reads them, in prompts as its chat template makes them."""
    return Imagination(reader(llm), frame_of(llm), characters_of(llm, sample))
