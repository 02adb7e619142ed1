"""Settings of one run."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..dag.estimates import Estimates
from .row import RowIn as RowIn

DEFAULT_WINDOW = 2_048


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one run."""

    window: int = DEFAULT_WINDOW
    """Most rows under way at once. Fewer of them ask models, see `Admission`."""
    seed: int = 0
    """From it, the row and the node, every sampled call without a seed derives its own."""
    plan: bool = True
    """Merge equal calls and order rows; without, every call of every row runs on its own."""
    disable: tuple[str, ...] = ()
    """Rules of the planner to leave out, by name."""
    known: Estimates = field(default_factory=Estimates)
    """What earlier runs have shown of the operators."""
    salt: str = ""
    """Of a tenant: calls of different salts share neither cached KV nor answers."""
