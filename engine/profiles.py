"""Profiles for the planner's cost model: what the local engine knows of itself."""

from __future__ import annotations

from collections.abc import Collection

from ..dag.estimates import Estimates
from ..dag.profile import Profile
from .backends.local import LocalBackend


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
