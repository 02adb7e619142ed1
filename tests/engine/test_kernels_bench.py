"""The benchmark of kernels, on sizes that take no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.benchmarks import kernels
from plait.benchmarks.engine import make_model
from plait.benchmarks.engine_child import Job, perform
from plait.benchmarks.engine_shapes import Setting


def test_every_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_sizes", lambda: [(40, 24), (24, 40)])
    found = kernels.products(3, "float32")
    assert "linear" in found and all(ms > 0 for ms in found.values())


def test_the_table_has_all_numbers() -> None:
    steps = {"prefill of 64": 1.25, "decode": 2.5}
    found = {
        "threads": 2,
        "products": {"float32": {1: {"own": 3.5, "linear": 7.0}}},
        "steps": {"float32": {"own kernels": steps, "torch's operators": steps}},
    }
    text = kernels.table(found)
    assert all(number in text for number in ("3.50", "7.00", "1.25", "2.50"))


def test_steps_are_those_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PREFILLS", (8,))
    monkeypatch.setattr(kernels, "DECODES", ((2, 8, 1),))
    found = perform(Job(Setting(str(make_model(tmp_path)), threads=1), "kernels"))
    assert set(found) == {"prefill of 8", "decode, 2 x (8 shared + 1 own)"}
    assert all(ms > 0 for ms in found.values())
