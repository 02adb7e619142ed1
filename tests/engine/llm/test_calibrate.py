from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from plait.engine.llm import LLM
from plait.engine.llm.calibrate import _fit
from plait.engine.llm.costs import Costs


def test_costs_are_measured_once_and_read_back(
    engine: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    llm = engine()
    assert llm.costs.matmul_peak == 0
    costs = llm.calibrate()
    assert costs.matmul_peak > 1e8 and costs.memory_peak > 1e8
    assert costs.prefill_seconds(100) > 0 and costs.decode_seconds(4, 100) > 0
    assert engine().costs == costs


def test_a_fit_finds_the_factors_and_none_below_zero() -> None:
    rows = [[1.0, float(n), float(n * n)] for n in (1, 3, 8, 20)]
    exact = [2 + 3 * r[1] for r in rows]
    assert _fit(rows, exact) == pytest.approx([2, 3, 0], abs=1e-6)
    assert min(_fit(rows, [5, 4, 3, 2])) >= 0


def test_the_cheaper_of_restoring_and_computing() -> None:
    costs = Costs(token=1e-3, restore=1e6, offload=1e6, kv_bytes=100)
    assert costs.restore_pays(100, 0) and costs.offload_pays(100, 0)
    slow = Costs(token=1e-6, restore=1e6, offload=1e6, kv_bytes=100)
    assert not slow.restore_pays(100, 0) and not slow.offload_pays(100, 0)
