"""What stands in a run's trace file: tasks on lanes, and how the models stood over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """A span of the timeline."""

    node: str
    track: int
    """Which of the tracks it is on."""
    lane: int
    start: float
    seconds: float
    row: Any
    ok: bool

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(slots=True)
class Level:
    """How a model stood at one moment: requests, and pages of its KV pool."""

    at: float
    running: int = 0
    waiting: int = 0
    held: int = 0
    cached: int = 0
    free: int = 0

    @property
    def pages(self) -> int:
        return self.held + self.cached + self.free


@dataclass(slots=True)
class Tracks:
    """A trace file, read."""

    names: list[str] = field(default_factory=list)
    """Models, and the tools."""
    tasks: list[Task] = field(default_factory=list)
    levels: dict[str, list[Level]] = field(default_factory=dict)
    """By track, in the order of time."""
    dropped: int = 0
    """Tasks that are not in the file."""
    rows_shown: int = 1
    """Those in it are of every row, or of every so many."""

    @property
    def end(self) -> float:
        """Seconds until the last thing that is known."""
        last = [levels[-1].at for levels in self.levels.values() if levels]
        return max([*last, *(t.end for t in self.tasks)], default=0.0)


def read_tracks(trace: Mapping[str, Any]) -> Tracks:
    """The tracks of a trace file as `trace_json` writes it."""
    events = trace.get("traceEvents", ())
    named = {e["pid"]: str(e["args"]["name"]) for e in events if e["name"] == "process_name"}
    pids = sorted({e["pid"] for e in events if e["ph"] in "XC"})
    tracks = Tracks([named.get(pid, f"process {pid}") for pid in pids])
    other = trace.get("otherData", {})
    tracks.dropped, tracks.rows_shown = other.get("spans_dropped", 0), other.get("rows_shown", 1)
    levels: dict[tuple[int, float], Level] = {}
    for e in events:
        track, at = pids.index(e["pid"]) if e["ph"] in "XC" else -1, e.get("ts", 0) / 1e6
        if e["ph"] == "X":
            args, lane = e["args"], e["tid"] - 1
            tracks.tasks.append(
                Task(e["name"], track, lane, at, e["dur"] / 1e6, args["row"], args["ok"])
            )
        if e["ph"] == "C":
            level = levels.setdefault((track, at), Level(at))
            for name, value in e["args"].items():
                setattr(level, name, value)
    for (track, _), level in sorted(levels.items(), key=lambda entry: entry[0]):
        tracks.levels.setdefault(tracks.names[track], []).append(level)
    return tracks
