"""The overhead benchmark itself, and that finished rows leave nothing behind."""

from __future__ import annotations

import pytest

from plait.benchmarks.overhead import memory_per_row
from plait.engine import run


def test_memory_does_not_grow_with_finished_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MAX_SPANS", 100)  # so that few rows fill it
    # What threads of other tests leave behind meanwhile is counted as well; rows that stay are
    # counted every time.
    assert any(memory_per_row(300, 900) < 64 for _ in range(3))
