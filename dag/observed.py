"""What runs have shown of an operator: how long its answers are, how long a tool takes, how many
different values come out. Small, bounded, added up in any order, and kept as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .line import Line

GROWTH = 1.1
"""Ratio of neighbouring buckets: a quantile is off by at most half of that, 5 %."""
LEAST = 1e-6
"""Anything smaller is counted as nothing."""
REMEMBERED = 4_096
"""Different values that are told apart; what comes after them is taken to repeat as often."""
_LOG = math.log(GROWTH)


@dataclass(slots=True)
class Sketch:
    """Numbers of one kind as counts in buckets that grow by a tenth."""

    counts: dict[int, int] = field(default_factory=dict)
    """Bucket -> numbers in it; bucket b holds those around GROWTH ** b."""
    nothing: int = 0
    """Numbers below `LEAST`."""
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, number: float) -> None:
        self.count += 1
        self.total += number
        self.squares += number * number
        if number < LEAST:
            self.nothing += 1
            return
        bucket = round(math.log(number) / _LOG)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, other: Sketch) -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.nothing += other.nothing
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        if self.count < 2:
            return 0.0
        variance = (self.squares - self.total * self.mean) / (self.count - 1)
        return math.sqrt(max(0.0, variance))

    def quantile(self, share: float) -> float:
        """The number below which this share of all lies; 0 when there are none."""
        wanted = share * self.count
        seen = self.nothing
        if wanted <= seen:
            return 0.0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return math.exp(bucket * _LOG)
        return 0.0

    def shares(self) -> list[tuple[float, float]]:
        """Numbers, ascending, and the share of all that are no larger: the ends of the buckets."""
        found, seen = [], self.nothing
        if seen:
            found.append((LEAST, seen / self.count))
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            found.append((math.exp((bucket + 0.5) * _LOG), seen / self.count))
        return found

    def draw(self, share: float) -> float:
        """The quantile, set right so that draws from all places have the mean of all numbers."""
        if self.deviation < 1e-9 * abs(self.mean):
            return self.mean
        rough = sum(n * math.exp(b * _LOG) for b, n in self.counts.items())
        return self.quantile(share) * self.total / rough if rough else 0.0

    def as_json(self) -> dict[str, Any]:
        counts = [[b, self.counts[b]] for b in sorted(self.counts)]
        return {
            "counts": counts, "nothing": self.nothing, "total": self.total,
            "squares": self.squares,
        }  # fmt: skip

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Sketch:
        """From `as_json`. Raises KeyError, TypeError or ValueError for anything else."""
        counts = {int(b): int(n) for b, n in data["counts"]}
        nothing = int(data["nothing"])
        count = nothing + sum(counts.values())
        return cls(counts, nothing, count, float(data["total"]), float(data["squares"]))


@dataclass(slots=True)
class Observed:
    """One operator over the calls it has made."""

    answers: Sketch = field(default_factory=Sketch)
    """Tokens of an LLM's answers."""
    seconds: Sketch = field(default_factory=Sketch)
    """Of a tool's calls."""
    sizes: Sketch = field(default_factory=Sketch)
    """Characters of its values, as a prompt shows them."""
    growth: Line = field(default_factory=Line)
    """Of a tool: how the size of a value goes with that of what the call was given."""
    different: int = 0
    """Values that were unlike all before."""
    _seen: set[int] = field(default_factory=set, repr=False, compare=False)

    def value(self, text: str, given: int | None = None) -> None:
        """A call has given something that prompts show as this text; `given`: characters of what it
        was given."""
        self.sizes.add(len(text))
        if given is not None:
            self.growth.add(given, len(text))
        if len(self._seen) >= REMEMBERED:
            return
        key = hash(text)
        if key not in self._seen:
            self._seen.add(key)
            self.different += 1

    def merge(self, other: Observed) -> None:
        """Add what another run has shown."""
        self._add(other)
        # Whether values of two runs are the same is not known: the larger one tells best.
        if other.sizes.count >= self.sizes.count:
            self.sizes, self.different = other.sizes, other.different

    def join(self, other: Observed) -> None:
        """Add what another node of the same run has shown: had it given the same values, its calls
        would have been merged."""
        self._add(other)
        self.sizes.merge(other.sizes)
        self.different += other.different

    def _add(self, other: Observed) -> None:
        self.answers.merge(other.answers)
        self.seconds.merge(other.seconds)
        self.growth.merge(other.growth)

    @property
    def pool(self) -> float:
        """From how many different values the results seem to be drawn; infinite when none repeats.

        n draws from K equally likely values show K (1 - (1 - 1/K)^n) different ones; solved for K.
        """
        draws, different = min(self.sizes.count, REMEMBERED), self.different
        if draws == 0 or different >= draws:
            return math.inf
        low, high = float(different), 1e9
        for _ in range(60):
            middle = math.sqrt(low * high)
            expected = -middle * math.expm1(draws * math.log1p(-1 / max(middle, 1 + 1e-12)))
            low, high = (middle, high) if expected < different else (low, middle)
        return low

    def as_json(self) -> dict[str, Any]:
        """Without what was never seen."""
        found: dict[str, Any] = {}
        for name in ("answers", "seconds", "sizes"):
            sketch: Sketch = getattr(self, name)
            if sketch.count:
                found[name] = sketch.as_json()
        if self.growth.count:
            found["growth"] = self.growth.as_json()
        return found | ({"different": self.different} if self.different else {})

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Observed:
        """From `as_json`. Raises KeyError, TypeError or ValueError for anything else."""
        answers, seconds, sizes = (
            Sketch.of(data[name]) if name in data else Sketch()
            for name in ("answers", "seconds", "sizes")
        )
        growth = Line.of(data["growth"]) if "growth" in data else Line()
        return cls(answers, seconds, sizes, growth, int(data.get("different", 0)))
