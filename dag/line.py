"""A straight line through pairs of numbers, added up one by one: least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEW = 4
"""Pairs below which nothing is said."""
TIED = 0.5
"""Share of what the second numbers vary by that the first ones must explain (r squared)."""


@dataclass(slots=True)
class Line:
    """Sums over pairs (x, y)."""

    count: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def add(self, x: float, y: float) -> None:
        self.merge(Line(1, x, y, x * x, x * y, y * y))

    def merge(self, other: Line) -> None:
        self.count += other.count
        self.x += other.x
        self.y += other.y
        self.xx += other.xx
        self.xy += other.xy
        self.yy += other.yy

    def at(self, x: float) -> float | None:
        """The y expected of an x; None where it cannot be told by x."""
        if self.count < FEW:
            return None
        mean_x, mean_y = self.x / self.count, self.y / self.count
        spread_x = self.xx / self.count - mean_x * mean_x
        spread_y = self.yy / self.count - mean_y * mean_y
        tie = self.xy / self.count - mean_x * mean_y
        if spread_x <= 0 or spread_y <= 0 or tie * tie < TIED * spread_x * spread_y:
            return None
        return mean_y + tie / spread_x * (x - mean_x)

    def as_json(self) -> list[float]:
        return [self.count, self.x, self.y, self.xx, self.xy, self.yy]

    @classmethod
    def of(cls, data: Sequence[float]) -> Line:
        """From `as_json`. Raises TypeError or ValueError for anything else."""
        count, *sums = data
        x, y, xx, xy, yy = map(float, sums)
        return cls(int(count), x, y, xx, xy, yy)
