"""The workflow benchmark itself, on a model so small that it only counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plait.benchmarks.workflow_runs import AMPLE, BASELINE, MODES, PLAN, Measured, half_of
from plait.benchmarks.workflow_shapes import SHAPES
from plait.benchmarks.workflows import Setting, bench, checked, distinct, ratios, table
from plait.dag.errors import ConfigError

from .llm import models


def test_every_mode_of_a_shape_gives_the_same_rows_and_is_written_down(tmp_path: Path) -> None:
    out, told = tmp_path / "found.json", list[str]()
    path = models.save_with_tokenizer(tmp_path)
    models.save("llama", path, vocab_size=264, max_position_embeddings=4096)
    setting = Setting({"default": str(path)}, rows=4, repeats=1)
    found = bench(setting, ("chain",), told.append, out)
    assert json.loads(out.read_text()) == json.loads(json.dumps(found))
    ample, half = found["shapes"]
    assert tuple(ample["modes"]) == MODES["ample"] and tuple(half["modes"]) == MODES["half"]
    assert len(told) == len(MODES["ample"]) + len(MODES["half"])
    assert half["kv_memory"] < ample["kv_memory"] and half["rows"] == 4
    assert ample["modes"][PLAN]["executed"] < ample["modes"][BASELINE]["executed"]
    assert ample["modes"][PLAN]["evicted_tokens"] == 0
    wanted = len({str(row) for row in SHAPES[0].rows(4)})
    assert SHAPES[0].name == "chain" and ample["distinct"] == half["distinct"] == wanted <= 4
    text = table(found)
    assert "rows distinct" in text
    assert "KV memory ample" in text and "KV memory half" in text and "~" in text


def test_batches_are_as_large_as_is_told() -> None:
    sizes = {shape.name: shape.batch for shape in SHAPES}
    assert sizes == dict.fromkeys(sizes, 256) | {"desk": 64}


def test_ratios_are_those_of_their_memory_only() -> None:
    def shape(kv: str, seconds: float) -> dict[str, object]:
        modes = {BASELINE: {"seconds": seconds}, PLAN: {"seconds": 2.0}}
        return {"shape": "s", "kv": kv, "modes": modes}

    found = [shape("ample", 4.0), shape("half", 9.0)]
    assert ratios(found, "ample")[BASELINE]["geometric_mean"] == pytest.approx(2.0)
    assert ratios(found, "half")[BASELINE]["each"] == {"s": 4.5}


def test_half_is_half_of_what_was_kept() -> None:
    assert half_of(Measured(BASELINE, kept_pages=100, total_pages=1000)) == AMPLE // 20


def test_rows_that_differ_in_their_ids_only_are_one() -> None:
    rows = [{"id": 0, "a": [1]}, {"id": 1, "a": [1]}, {"id": 2, "a": [2]}, {"id": 3, "a": [1.0]}]
    assert distinct(rows) == 3


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="no 'fast' here: known are 'query-wise'"):
        checked(Setting({}), None, ["fast"], None)
