"""The engine benchmark on other models than the small one: whole, on a model so tiny that a CPU
runs it in no time, as a GPU would run a large one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.benchmarks import engine, engine_shapes
from plait.benchmarks.engine import bench, make_model
from plait.benchmarks.engine_answers import compare
from plait.benchmarks.engine_child import Job, perform
from plait.benchmarks.engine_contenders import floor_of
from plait.benchmarks.engine_floors import PADDED
from plait.benchmarks.engine_roof_table import roof_lines
from plait.benchmarks.engine_roofs import measure_roofs
from plait.benchmarks.engine_shapes import SHAPES, Setting, random_weights
from plait.benchmarks.engine_table import table
from plait.cli import main
from plait.dag.errors import ConfigError, ModelError
from plait.engine.llm.costs import Costs
from plait.engine.llm.steps import Step

CPU = torch.device("cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    SHAPES["tiny"].config().save_pretrained(tmp_path)
    return tmp_path


def test_a_shape_is_run_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16, as on a GPU: there the answers are counted, and exact in fp32."""
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PLAIT_CALIBRATE", "1")
    fp32 = [(w, c, n) for w, c, n in engine.SHAPE_RACES if c.endswith("fp32")]
    assert len(fp32) == 2
    races = [("turns", c, 1) for c in (PADDED, "plait", PADDED + " fp32", "plait fp32")]
    monkeypatch.setattr(engine, "SHAPE_RACES", tuple(races))
    told: list[str] = []
    found = bench(
        threads=1, repeats=1, only=["turns"], shape="tiny", dtype="bfloat16", say=told.append,
        out=tmp_path / "found.json", run=perform,
    )  # fmt: skip
    assert json.loads((tmp_path / "found.json").read_text()) == found and len(told) == 4
    assert found["floors"] == [] and found["setting"]["dtype"] == "bfloat16"
    runs = found["races"]["turns"]
    assert (runs["plait fp32"]["rows"], runs["plait fp32"]["rows_equal"]) == (8, 8)
    half = runs["plait"]
    assert half["rows"] == 8 and ("first_difference" in half) == (half["rows_equal"] < 8)
    assert 0 < half["counters"]["floor_seconds"] < half["seconds"]
    text = table(found)
    assert "random qwen3 of 0.5 M parameters, bfloat16" in text and "floors met" not in text
    assert text.count("8 conversations") == 2, "its contenders, and its physical floor"


def test_steps_stand_beside_their_floors(tiny: Path) -> None:
    setting = Setting(str(tiny), threads=1)
    found = measure_roofs(setting, decodes=((1, 0, 40), (3, 64, 8), (99, 0, 10**6)), prefills=(64,))
    assert [row["says"] for row in found["rows"]] == [
        "decode 1 x 40", "decode 3 x 8 behind 64 shared", "prefill 64",
    ]  # fmt: skip
    assert all(row["floor"] > 0 and row["seconds"] > 0 for row in found["rows"])
    assert set(found["overheads"]) == {"1", "32", "128"}
    lines = roof_lines({"races": {}, "steps": found})
    assert sum("decode" in line or "prefill" in line for line in lines) == 3
    assert "steps failed: died" in roof_lines({"races": {}, "steps": {"error": "died"}})


def test_what_cannot_be_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(job: Job) -> dict[str, object]:
        raise AssertionError("nothing is to be run")

    for settings, words in (
        ({"shape": "gpt-9"}, "there are .*qwen3-8b"),
        ({"dtype": "int3"}, "bfloat16"),
    ):
        with pytest.raises(ConfigError, match=words):
            bench(run=never, **settings)  # type: ignore[arg-type]
    monkeypatch.setattr("plait.engine.llm.memory.free_memory", lambda device: 1 << 30)
    with pytest.raises(ModelError, match="'qwen3-0.6b' needs 2.66 GiB .* 1.00 GiB are free .*cpu"):
        bench(run=never, shape="qwen3-0.6b")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="torch sees no CUDA device"):
            bench(run=never, device="cuda")
        with pytest.raises(SystemExit, match="1"):
            main(["bench", "engine", "--device", "cuda"])
        assert "torch sees no CUDA device" in capsys.readouterr().err


def test_random_weights_are_the_same_in_every_process_and_type(tiny: Path) -> None:
    one, again = (random_weights(tiny, "", CPU, torch.float32) for _ in range(2))
    half = random_weights(tiny, "", CPU, torch.bfloat16, attention="sdpa")
    for (name, a), b, c in zip(
        one.named_parameters(), again.parameters(), half.parameters(), strict=True
    ):
        assert torch.equal(a, b) and torch.equal(a.bfloat16(), c), name
    spread = float(one.get_input_embeddings().weight.std())
    assert spread == pytest.approx(SHAPES["tiny"].deviation, rel=0.02)
    assert one.get_output_embeddings().weight is one.get_input_embeddings().weight


def test_kv_is_counted_as_the_engine_counts_it(tiny: Path, tmp_path: Path) -> None:
    assert Setting(str(tiny)).kv_bytes() == 2 * 2 * 2 * 16 * 4
    small = make_model(tmp_path / "small")
    assert Setting(str(small)).kv_bytes() == 8192
    assert Setting(str(small), dtype="bfloat16").kv_bytes() == 4096
    assert Setting(str(tiny)).weights() is random_weights is not Setting(str(small)).weights()


def test_shapes_have_the_sizes_of_what_they_are_named_after() -> None:
    from transformers import AutoModelForCausalLM

    for name, millions in (("small", 26.8), ("qwen3-0.6b", 596), ("qwen3-8b", 8191)):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(SHAPES[name].config())
        count = sum(p.numel() for p in model.parameters())
        assert count / 1e6 == pytest.approx(millions, rel=2e-3), name


def test_answers_are_compared_with_those_of_their_type() -> None:
    def answers(*rows: list[int]) -> dict[str, Any]:
        return {"answers": [list(rows)]}

    races: dict[str, dict[str, Any]] = {
        "tree": {PADDED: answers([1, 2, 3], [4, 5])},
        "tight": {"plait": answers([1, 2, 9], [4, 5])},
        "shared": {
            PADDED: answers([1, 2, 3, 4]), "plait": answers([1, 2, 3, 4]),
            PADDED + " fp32": answers([1, 2, 4, 4]), "plait fp32": answers([1, 2, 4, 5]),
            "generate_batch": {"error": "died"},
        },
        "ragged": {"generate padded by 16": answers([7]), "plait": answers([8])},
    }  # fmt: skip
    compare(races)
    assert races["tight"]["plait"] == {
        "rows": 2, "rows_equal": 1, "first_difference": 3, "tokens_before": 0.8,
    }  # fmt: skip
    assert races["shared"]["plait"] == {"rows": 1, "rows_equal": 1}
    assert races["shared"]["plait fp32"]["first_difference"] == 4
    assert races["ragged"]["plait"]["tokens_before"] == 0
    assert races["shared"]["generate_batch"] == {"error": "died"}


def test_a_floor_is_reading_or_products_whichever_takes_longer() -> None:
    def step(flops: float, read: float) -> Step:
        return Step(0.0, 1, 0, 0, 1, 0, 1, 1, 1, flops, read, 0.0, 0.0)

    costs = Costs(matmul_peak=100.0, memory_peak=10.0)
    assert floor_of([step(100, 1), step(1, 100)], costs, 2) == 1 + 10
    assert floor_of([step(100, 1)], Costs(), 1) == 0, "no peaks are known"
    assert floor_of([step(100, 1)], costs, 2) is None, "a step is no longer remembered"
    assert engine_shapes.ROOM > 1
