"""Two files of results compared row by row."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..dag.errors import InputError
from .results import read_results
from .rundir import RunDir


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs. None stands for a row that is missing."""

    id: str | int
    a: dict[str, Any] | None
    b: dict[str, Any] | None

    def __str__(self) -> str:
        return f"row {self.id!r}:\n  a {_shown(self.a)}\n  b {_shown(self.b)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    same: int
    differing: list[Difference]

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(d) for d in self.differing]
        return {"same": self.same, "different": len(rows), "rows": rows}


def compare(a: Path, b: Path) -> Comparison:
    """Compare status, output and kind of error of every row, in the order of the first file.

    Of the first file a digest per row is kept, not the row. Raises InputError for a path that is
    neither a run directory nor a file of results.
    """
    first, second = _results(a), _results(b)
    digests = {at.row["id"]: _digest(at.row) for at in read_results(first)}
    same, changed, added = 0, {}, {}
    seen = set()
    for at in read_results(second):
        id = at.row["id"]
        seen.add(id)
        if id not in digests:
            added[id] = _outcome(at.row)
        elif digests[id] == _digest(at.row):
            same += 1
        else:
            changed[id] = _outcome(at.row)
    found = [
        Difference(at.row["id"], _outcome(at.row), changed.get(at.row["id"]))
        for at in read_results(first)
        if at.row["id"] in changed or at.row["id"] not in seen
    ]
    return Comparison(same, found + [Difference(id, None, row) for id, row in added.items()])


def _results(path: Path) -> Path:
    if path.is_dir():
        RunDir(path).read()
        path = RunDir(path).out
    if not path.is_file():
        raise InputError(f"{path}: there are no results; give a run directory or its out.jsonl")
    return path


def _outcome(row: dict[str, Any]) -> dict[str, Any]:
    """What two runs must agree in. Messages of errors name times and sizes, so only kinds count."""
    if row["status"] == "ok":
        return {"status": "ok", "output": row.get("output")}
    return {"status": "error", "error": (row.get("error") or {}).get("type")}


def _digest(row: dict[str, Any]) -> bytes:
    text = json.dumps(_outcome(row), sort_keys=True)
    return blake2b(text.encode(), digest_size=16).digest()


def _shown(row: dict[str, Any] | None) -> str:
    if row is None:
        return "has no such row"
    text = json.dumps(row.get("output", row.get("error")), ensure_ascii=False)
    return f"{row['status']}: {text if len(text) <= 200 else text[:199] + '…'}"
