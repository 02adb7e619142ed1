"""What `plait explain` has found out, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dag.analyze import analysis, compare
from ..dag.estimates import Estimates
from ..dag.explain import explain, told_cost
from ..dag.logical import Plan
from ..engine.past import PastRun
from ..engine.priced import Priced


@dataclass(frozen=True, slots=True)
class Explained:
    """A plan and its price, and the run that it is compared with, if any."""

    found: Priced
    changes: Sequence[str] = ()
    """What every rule did."""
    notes: Sequence[str] = ()
    """What must be known to read the rest."""
    run: PastRun | None = None
    counted: Plan | None = None
    """The plan whose numbers are compared with the run's; see `priced.counted`."""
    known: Estimates | None = None
    """What was known when the run began."""

    def as_dict(self) -> dict[str, Any]:
        """In JSON values, without fields that say nothing."""
        found = self.found
        fields: dict[str, Any] = {
            "cost": found.cost.as_dict() if found.cost is not None else None,
            "oversized": [one.as_dict() for one in found.oversized],
            "left_out": found.left_out,
            "notes": list(self.notes),
            "analysis": compare(*self._compared) if self.run is not None else None,
            "changes": list(self.changes),
        }
        return {**found.plan.as_dict(), **{name: said for name, said in fields.items() if said}}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    @property
    def _compared(self) -> tuple[Plan, Any, Mapping[str, Any], Estimates | None]:
        assert self.run is not None
        return self.counted or self.found.plan, self.found.cost, self.run.stats, self.known

    def _lines(self) -> Iterator[str]:
        found = self.found
        yield from self.changes
        yield explain(found.plan, found.cost, found.left_out)
        if found.cost is not None:
            yield told_cost(found.cost)
        yield from map(str, found.oversized)
        if self.run is not None:
            yield f"compared with {self.run}"
        yield from self.notes
        if self.run is not None:
            yield analysis(*self._compared)
