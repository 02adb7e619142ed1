"""What is asked of a batch, checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..dag.errors import ConfigError
from .engine import Engine
from .options import DEFAULT_WINDOW
from .planning import check_disabled


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for, as it stands in run.json."""

    target: str
    """FILE or FILE:NAME of the workflow."""
    input: str
    """File of rows; "-" is standard input."""
    output: str | None = None
    """Where a copy of the results goes; "-" is standard output."""
    models: Mapping[str, str] = field(default_factory=lambda: {"default": "demo"})
    backend: str = "local"
    device: str = "auto"
    dtype: str = "auto"
    kv_memory: str | None = None
    seed: int = 0
    max_rows: int = DEFAULT_WINDOW
    limit: int | None = None
    max_errors: str | None = None
    keep_order: bool = False
    plan: bool = True
    """Merge equal calls and order rows over the batch."""
    disable: Sequence[str] = ()
    """Rules of the planner that are left out, by name."""
    memory: str | None = None
    """For all models together; those that do not fit take turns."""
    devices: Sequence[str] = ()
    """Several, in the place of `device`; calls are divided."""
    host_memory: str | None = None
    """For KV of each model that is cheaper to move to the host than to compute."""
    expect: Sequence[str] = ()
    """What is said of nodes, such as `draft=40` tokens or `look_up=0.5` seconds."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit} is out of range: at least 1")
        self.errors_allowed(1)
        check_disabled(self.disable, self.plan)
        if self.devices and self.device != "auto":
            both = f"--device {self.device} and --devices {','.join(self.devices)}"
            raise ConfigError(f"{both} contradict: give one of them")

    def engine(self) -> Engine:
        """The engine these settings ask for."""
        return Engine(
            models=self.models, device=self.device, dtype=self.dtype, kv_memory=self.kv_memory,
            host_memory=self.host_memory or 0,
            memory=self.memory, devices=self.devices, backend=self.backend,
            max_rows=self.max_rows, seed=self.seed, plan=self.plan, disable=self.disable,
        )  # fmt: skip

    def engines(self) -> dict[str, str]:
        """By alias, the first of those that share its engine."""
        first = {name: alias for alias, name in [*self.models.items()][::-1]}
        return {alias: first[name] for alias, name in self.models.items()}

    def errors_allowed(self, rows: int) -> float:
        """Most failed rows before admission ends; a percentage is one of all `rows`."""
        if self.max_errors is None:
            return float("inf")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", self.max_errors.strip())
        if found is None or (not found[2] and "." in found[1]):
            hint = "give a number of rows, such as 10, or a percentage, such as 5%"
            raise ConfigError(f"--max-errors {self.max_errors!r} is not a number of rows: {hint}")
        return float(found[1]) * rows / 100 if found[2] else float(found[1])

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "models": dict(self.models)}
