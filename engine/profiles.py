"""Profiles for the planner's cost model: what the local engine knows of itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..dag.estimates import Estimates
from ..dag.profile import Profile
from .backends.local import LocalBackend
from .texts import characters_of, sample_of


def profile_of(
    backend: LocalBackend, models: Collection[str], *, calibrate: bool = False,
    known: Estimates | None = None,
) -> Profile:  # fmt: skip
    """Costs of these models on this machine. Loads them; `calibrate` measures for some seconds."""
    llms = {alias: backend.llm(alias) for alias in models}
    if calibrate:
        for llm in {id(m): m for m in llms.values()}.values():
            llm.calibrate()
    return Profile(
        {alias: llm.costs for alias, llm in llms.items()},
        loaded=frozenset(llms) if backend.together(models) else frozenset(),
        together=backend.together(models),
        estimates=known or Estimates(),
    )


def measure_of(
    backend: LocalBackend, model: str, rows: Iterable[Mapping[str, Any] | None]
) -> Callable[[str], float]:
    """Tokens of a text, by the mean length of the model's tokens in texts like the rows'."""
    per_token = characters_of(backend.llm(model), sample_of(rows))
    return lambda text: len(text) / per_token
