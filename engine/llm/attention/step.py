"""What all back ends do with a step: write K and V, plan once per window, fill levels, merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch

from ..pool import Pool
from .levels import Levels
from .plan import Layout


class StepPlan(Protocol):
    """How a back end computes a step's items."""

    @property
    def levels(self) -> int:
        """Partial results that a row has at most."""
        ...


P = TypeVar("P", bound=StepPlan)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one layer's rows ask, of which keys and values, and how."""

    query: torch.Tensor
    """(T, Hq, D)."""
    own_keys: torch.Tensor
    """(T, Hkv, D): those of the step's own rows."""
    own_values: torch.Tensor
    keys: torch.Tensor
    """(slots, Hkv, D): the layer's pool."""
    values: torch.Tensor
    scale: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


@dataclass(slots=True)
class _Prepared(Generic[P]):
    plan: P
    levels: dict[tuple[int, int, int], Levels] = field(default_factory=dict)
    """By rows, heads and size: layers of one model may differ."""


class PlannedAttention(ABC, Generic[P]):
    """One step's attention; layers with the same window have one plan."""

    def __init__(self, pool: Pool, layout: Layout, slots: torch.Tensor) -> None:
        self.pool = pool
        self._layout = layout
        self.slots = slots
        self._prepared: dict[tuple[int | None, bool], _Prepared[P]] = {}

    @abstractmethod
    def _plan(self, window: int | None, plain: bool) -> P:
        """Plan the layout. `plain`: no soft cap, and keys and values of one size."""

    @abstractmethod
    def _longer(self, plan: P) -> P | None:
        """The plan for the next decode step of the same rows; None when it is to be made anew."""

    @abstractmethod
    def _compute(self, plan: P, asked: Asked, levels: Levels) -> torch.Tensor:
        """(T, Hq, D): every partial result, merged. `levels` are for this plan alone."""

    def advance(self, layout: Layout) -> None:
        """The next decode step; slots and positions were moved on in place."""
        self._layout = layout
        for name, prepared in list(self._prepared.items()):
            longer = self._longer(prepared.plan)
            if longer is None:
                del self._prepared[name]
            else:
                prepared.plan = longer

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(T, Hq, D), valid until the next layer asks."""
        keys, values = self.pool.write(layer, self.slots, key, value)
        asked = Asked(query, key, value, keys, values, scale, window, softcap, sinks)
        name = (window, softcap is None and key.shape == value.shape)
        shape = (len(query), query.shape[1], value.shape[-1])
        plan, levels = self._prepare(name, shape, query.device)
        return self._compute(plan, asked, levels)

    def _prepare(
        self, name: tuple[int | None, bool], shape: tuple[int, int, int], device: torch.device
    ) -> tuple[P, Levels]:
        """The plan for a window, and places for partial results of (T, Hq, D)."""
        prepared = self._prepared.get(name)
        if prepared is None:
            prepared = self._prepared[name] = _Prepared(self._plan(*name))
        levels = prepared.levels.get(shape)
        if levels is None:
            levels = Levels.empty(prepared.plan.levels, *shape, device)
            prepared.levels[shape] = levels
        return prepared.plan, levels


def merged(levels: Levels, asked: Asked) -> torch.Tensor:
    """(T, Hq, D): what the levels say together, in the query's type."""
    return levels.merge(asked.sinks).to(asked.query.dtype)
