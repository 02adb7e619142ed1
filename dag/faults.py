"""Which assumptions of a plan did not hold, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .foreseen import COLUMNS

SHOWN = 5
LONGER = "values in its prompt are longer or shared less, or the reverse"
GUESSED = "that was guessed from characters (--model counts them)"
OFF = 0.1
"""Share from which on an assumption is said to be off."""
LEAST_SECONDS = 0.005
"""By which a tool's time must be off to be told."""


def off_by(entries: list[dict[str, Any]], priced: bool = True) -> list[str]:
    """Which assumptions did not hold, those that changed most first; what is left is speed.
    `entries` are those of `compare`; where no model was there, its tokens are guesses."""
    found = [fault for entry in entries[:-1] for fault in _faults(entry, priced)]
    lines = [text for _, text in sorted(found, key=lambda fault: -fault[0])[:SHOWN]]
    seconds = entries[-1].get("seconds")
    if not lines and seconds and seconds["predicted"]:
        speed = seconds["actual"] / seconds["predicted"]
        if _differ(speed, 1.0):
            what = "slower" if speed > 1 else "faster"
            lines = [f"off: all counts held; the machine was {what} than its costs ({speed:.2f}x)"]
    return lines or ["every assumption held"]


def _faults(entry: Mapping[str, Any], priced: bool) -> Iterator[tuple[float, str]]:
    """What was off at one node: how many tokens (or seconds) that makes, and in words."""
    name = entry["node"]
    (calls, prefill, out), (made, computed, generated) = entry["predicted"], entry["actual"]
    length, expected = generated / max(1, made), out / max(1, calls)
    # A side that fewer rows took: its calls share less as well.
    fewer = made <= calls and COLUMNS[0] in entry.get("at_most", ())
    if _differ(calls, made) and not fewer:
        yield abs(made - calls) * max(1.0, length if made else expected), _calls_off(entry)
    if not calls or not made:
        return
    if out and _differ(length, expected):
        rather = f", not {expected:.0f}"
        if entry.get("lengths") == "limit":
            rather = f"; nothing was known of them but at most {expected:.0f}"
        yield (
            abs(length - expected) * made,
            f"off: answers of {name} had {length:.0f} tokens{rather}",
        )
    prompt, assumed = computed / made, prefill / calls
    if prefill and _differ(prompt, assumed) and not fewer:
        why = LONGER if priced else GUESSED
        yield (
            abs(prompt - assumed) * made / 10,
            f"off: a call of {name} computed {prompt:.0f} prompt tokens, not {assumed:.0f}: {why}",
        )
    each = entry.get("seconds_each")
    if each and each["predicted"] is not None and not generated and not out:
        actual, said = each["actual"], each["predicted"]
        if _differ(actual, said) and abs(actual - said) > LEAST_SECONDS:
            rather = f"not {said:.3f} s" if said else "and nothing was known of it"
            yield abs(actual - said) * 1e3, f"off: {name} took {actual:.3f} s, {rather}"


def _calls_off(entry: Mapping[str, Any]) -> str:
    name, calls, made = entry["node"], entry["predicted"][0], entry["actual"][0]
    if entry.get("open"):
        return f"off: {name} made {made:,} calls: values decide how many"
    if not calls:
        return f"off: {name} made {made:,} calls, and none were foreseen"
    if entry.get("turns") and made:
        return f"off: {name} took {made:,} turns, not {calls:,}"
    why = "fewer values were equal" if made > calls else "more values were equal"
    return f"off: {name} made {made:,} calls, not {calls:,}: {why}, or branches went otherwise"


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > OFF * max(abs(one), abs(other), 1e-12)
