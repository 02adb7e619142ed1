"""All starts of a run taken together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plait import ConfigError, InputError
from plait.dag.observed import Observed
from plait.engine.rundir import RunDir
from plait.engine.starts import all_starts, measured


def start(calls: int, length: float) -> dict[str, Any]:
    seen = Observed()
    for _ in range(calls):
        seen.answers.add(length)
    node = {"operator": "LLMCall", "calls": calls, "merged": 0, "seconds": 0.5,
            "seen": seen.as_json()}  # fmt: skip
    return {"stats": {"seconds": 2.0, "nodes": {"draft": node}}}


def run(place: Path, *starts: dict[str, Any]) -> Path:
    RunDir(place).write({"workflow": "report", "sessions": list(starts)})
    return place


def test_counters_of_all_starts_are_summed_and_expectations_are_those_of_the_first(
    tmp_path: Path,
) -> None:
    killed = {"status": "running", "expected": {"first": 1}}
    last = start(1, 40.0) | {"expected": {"last": 1}}
    found = all_starts(run(tmp_path, killed, start(3, 10.0), last), "report")
    assert found["expected"] == {"first": 1} and found["stats"]["seconds"] == 4.0
    draft = found["stats"]["nodes"]["draft"]
    assert (draft["calls"], draft["seconds"], draft["operator"]) == (4, 1.0, "LLMCall")
    answers = Observed.of(draft["seen"]).answers
    assert (answers.count, answers.mean) == (4, 17.5)


@pytest.mark.parametrize("alias", ["big", "big on a100", "big on 7"])
def test_models_are_found_where_they_are_whatever_their_alias(alias: str) -> None:
    done = {"steps": 3, "step_seconds": 0.5}
    told = {"loads": {alias: {"loads": 2}}, "loaded": {alias: {"kv_tokens": 100}}}
    pages = {"held": 5, "all": 10}
    alone = {"backend": told, "engine": {alias: done}, "pages": {alias: pages}}
    sums = {"steps": 3, "step_seconds": 0.5, "loads": 2, "models": 1, "kv_peak_tokens": 50}
    assert measured([alone]) == sums
    both = [f"{alias} on {worker}" for worker in (0, 1)]
    several = {
        "backend": {"workers": [told, told]}, "engine": dict.fromkeys(both, done),
        "pages": dict.fromkeys(both, pages),
    }  # fmt: skip
    twice = {name: 2 * value for name, value in sums.items()}
    assert measured([several]) == twice | {"models": 1}


def test_a_run_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        all_starts(run(tmp_path, {"status": "running"}), "report")
    with pytest.raises(ConfigError, match="of the workflow 'report', not of 'other'"):
        all_starts(run(tmp_path, start(1, 1.0)), "other")
