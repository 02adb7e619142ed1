"""What trying orders of rows, and placements of models, has come to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Trials:
    """What a batch takes in virtual time, by the order in which its rows start."""

    orders: int
    """That were rehearsed, on whatever placement."""
    every: bool
    """Whether all others are like one of these, on the placement that was taken."""
    seconds: float
    """With the order that was taken."""
    by_tokens: float
    """With the one that computes fewest tokens, on the placement that a formula finds."""
    as_given: float | None
    """With the rows as they come; None where that was not rehearsed."""
    slowest: float
    placements: int = 1
    """On which orders were rehearsed."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.orders == 1:
            return f"by tokens, {self.seconds:.4g} s expected: no other was worth trying"
        which = "all that differ" if self.every else "those a search came to"
        given = f", as given {self.as_given:.4g} s" if self.as_given is not None else ""
        taken = "by tokens, as nothing saves much" if self.seconds == self.by_tokens else "quickest"
        where = f", on {self.placements} placements" if self.placements > 1 else ""
        return (
            f"{taken}, {self.seconds:.4g} s expected; {self.orders} rehearsed ({which}{where}): "
            f"by tokens {self.by_tokens:.4g} s{given}, the slowest {self.slowest:.4g} s"
        )
