"""Measured costs on disk: one file for each model, device, type and version.

A model is known by what is in its directory, not by its path: the bytes of its config and the
sizes of its weight files. What the weights are does not change what they cost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .cache_folder import cache_folder
from .costs import Costs

log = logging.getLogger("plait")
WAY = 5
"""How costs are measured and fitted. What was measured in another way is measured anew."""
_unwritten: dict[Path, Known] = {}
"""Costs that could not be written, so that this process at least measures them once only."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What costs depend on."""

    model: str
    """Path or id, for those who read the file; it does not decide."""
    content: str
    device: str
    dtype: str
    threads: int
    kernels: bool
    """Whether plait's own kernels compute: steps take up to twice as long by torch's operators."""
    torch: str
    plait: str

    @property
    def file(self) -> Path:
        marks = {k: v for k, v in asdict(self).items() if k != "model"}
        marks |= {"fields": [f.name for f in fields(Costs)], "way": WAY}
        name = hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:24]
        return folder() / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Known:
    """Costs that were measured."""

    conditions: Conditions
    costs: Costs
    busy: bool = False
    """Other work took processors meanwhile: better measured again when the machine is calm."""


def folder() -> Path:
    return cache_folder("calibration")


def content_of(model: str) -> str:
    """What identifies a model; its id where it is not a directory."""
    place = Path(model)
    if not place.is_dir():
        return model
    marks = hashlib.sha256((place / "config.json").read_bytes())
    for file in sorted(place.glob("*.safetensors")):
        marks.update(f"{file.name} {file.stat().st_size}\n".encode())
    return marks.hexdigest()


def read(conditions: Conditions) -> Known | None:
    """Costs measured before under these conditions; None when there are none, or none that hold."""
    return _parse(conditions.file) or _unwritten.get(conditions.file)


def write(known: Known) -> None:
    """Keep costs: the whole file or none of it; in memory where nothing can be written."""
    file = known.conditions.file
    text = json.dumps(asdict(known), indent=1)
    part = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(file)
    except OSError as error:
        log.debug("calibration is not kept on disk: %s", error)
        _unwritten[file] = known


def everything() -> Iterator[Known]:
    """All costs on disk that can be read and were measured as they are now."""
    for file in sorted(folder().glob("*.json")):
        found = _parse(file)
        if found is not None and found.conditions.file == file:
            yield found


def _parse(file: Path) -> Known | None:
    try:
        data = json.loads(file.read_text())
        costs = Costs(**data["costs"])
        known = Known(Conditions(**data["conditions"]), costs, data["busy"] is True)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if _sound(asdict(costs)) else None


def _sound(costs: Mapping[str, Any]) -> bool:
    """Numbers that can be reckoned with."""
    rates = ("offload", "restore", "kv_bytes")
    return all(
        isinstance(v, int | float) and math.isfinite(v) and (v > 0 if k in rates else v >= 0)
        for k, v in costs.items()
    )
