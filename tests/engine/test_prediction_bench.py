"""The benchmark of predictions: which ways to run a batch it takes."""

from __future__ import annotations

import pytest

from plait.benchmarks.prediction import bench
from plait.dag.errors import UserError


def test_a_way_that_is_not_there_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="no way 'fast'.*'two rows at once'"):
        bench({"default": "nowhere"}, ways=["plan", "fast"])


def test_without_models_nothing_is_run() -> None:
    assert bench({}, ways=["plan"])["runs"] == []
