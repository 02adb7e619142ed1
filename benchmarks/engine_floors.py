"""The floors of the engine benchmark, and which of them a run meets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

PADDED = "generate padded"
DISTINCT = 1.02
"""Prefill computed over the tokens that have to be computed, at most."""
ROOFLINE = 0.6
MATMUL = 0.7
SPEED: tuple[tuple[str, str, float], ...] = (
    ("shared", PADDED, 5.0),
    ("shared", "generate one by one", 12.0),
    ("shared", "generate_batch", 20.0),
    ("ragged", "generate padded by 16", 1.5),
    ("tree", PADDED, 6.0),
)
"""(workload, beside whom, times as fast as it at least)."""
EXACT = ("shared", "ragged", "tree", "turns", "tight")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One floor beside what was measured."""

    what: str
    measured: float
    floor: float
    at_most: bool = False
    """Whether the floor is an upper limit."""
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.measured <= self.floor if self.at_most else self.measured >= self.floor

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def __str__(self) -> str:
        bound = "at most" if self.at_most else "at least"
        said = "met" if self.met else "NOT MET"
        return (
            f"{self.what:<66} {_shown(self.measured, self.unit):>10}   "
            f"{bound:>8} {_shown(self.floor, self.unit):<9} {said}"
        )


def verdicts(found: dict[str, Any]) -> list[Verdict]:
    """A verdict on every floor whose numbers are there; they are those of the small model."""
    if not found.get("setting", {}).get("floors", True):
        return []
    races = found["races"]
    return [
        *_speed(races),
        *_exact(races),
        *_prefill(races),
        *_steps(found.get("steps") or {}),
    ]


def _speed(races: dict[str, Any]) -> Iterator[Verdict]:
    for workload, other, floor in SPEED:
        ours, theirs = _seconds(races, workload, "plait"), _seconds(races, workload, other)
        if ours and theirs:
            yield Verdict(f"{workload}: beside {other}", theirs / ours, floor)
    exact, half = _seconds(races, "shared", "plait"), _seconds(races, "shared", "plait bf16")
    if exact and half:
        yield Verdict("shared: bf16 beside our own fp32", exact / half, 1.5)
    room, tight = _seconds(races, "tree", "plait"), _seconds(races, "tight", "plait")
    if room and tight:
        yield Verdict("tight: speed beside room for all", room / tight, 0.5)


def _exact(races: dict[str, Any]) -> Iterator[Verdict]:
    for workload in EXACT:
        entry = races.get(workload, {}).get("plait", {})
        if "rows" in entry:
            what = f"{workload}: rows equal to those of generate"
            yield Verdict(what, entry["rows_equal"] / entry["rows"], 1.0, unit="%")


def _prefill(races: dict[str, Any]) -> Iterator[Verdict]:
    for workload in ("tree", "turns"):
        counters = races.get(workload, {}).get("plait", {}).get("counters")
        if counters:
            distinct = races[workload]["workload"]["distinct_prefill"]
            share = counters["prefill_tokens"] / distinct
            what = f"{workload}: prefill computed of distinct tokens"
            yield Verdict(what, share, DISTINCT, at_most=True, unit="%")


def _steps(steps: dict[str, Any]) -> Iterator[Verdict]:
    if "decode" not in steps:
        return
    by = (("a @ b", "share", "decode"), ("the fastest product", "share_best", "decode_best"))
    for peak, share, decode in by:
        what = f"decode, 32 rows, 512 shared: of the roofline by {peak}"
        yield Verdict(what, steps[decode]["share"], ROOFLINE, unit="%")
        for tokens in (512, 1024, 2048):
            what = f"prefill of {tokens}: of the rate of {peak}"
            yield Verdict(what, steps[f"prefill_{tokens}"][share], MATMUL, unit="%")
    for rows in (1, 32, 128):
        what = f"step without the forward, {rows} running"
        seconds = steps[f"overhead_{rows}"]["seconds"]
        yield Verdict(what, seconds * 1e6, 200 + 5 * rows, at_most=True, unit=" us")


def _seconds(races: dict[str, Any], workload: str, contender: str) -> float | None:
    seconds: float | None = races.get(workload, {}).get(contender, {}).get("seconds")
    return seconds


def _shown(number: float, unit: str) -> str:
    if unit == "%":
        return f"{number:.1%}"
    return f"{number:.2f}{unit}" if unit == "x" else f"{number:.0f}{unit}"
