"""Costs are measured once for a model, a device and a version, and read from disk ever after."""

from __future__ import annotations

import ctypes
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from plait.dag.sampling import Sampling
from plait.engine.llm import LLM, calibrate, cost_file
from plait.engine.llm.costs import Costs
from plait.engine.llm.model import LoadedModel
from plait.engine.llm.native import Native, native

Build = Callable[..., LLM]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory, and models that are measured when they load."""
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PLAIT_CALIBRATE", "1")
    return tmp_path / "calibration"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were measured; with made-up costs, so that it takes no time, and
    as if on a calm machine."""
    names: list[str] = []

    def quick(loaded: LoadedModel, *_: object) -> Costs:
        names.append(loaded.name)
        return Costs(step=0.25, kv_bytes=256, matmul_peak=1e9, load=loaded.seconds)

    monkeypatch.setattr(calibrate, "measure", quick)
    monkeypatch.setattr(calibrate, "contended", lambda: False)
    return names


async def test_a_model_is_measured_when_it_is_first_loaded(
    engine: Build, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "contended", lambda: False)
    llm = engine()
    costs = llm.costs
    assert costs.matmul_peak > 1e8 and costs.memory_peak > 1e8
    assert costs.prefill_seconds(100) > 0 and costs.decode_seconds(4, 100) > 0
    assert min(costs.offload, costs.restore, costs.kv_bytes) > 0
    counters = llm.counters()
    assert counters.free_pages == counters.total_pages, "the pages measured with are free again"
    again = engine()
    assert replace(again.costs, load=0.0) == replace(costs, load=0.0)
    assert [known.costs for known in cost_file.everything()] == [costs]
    sampling = Sampling(max_tokens=6, ignore_eos=True)
    tokens = [(await m.generate([3, 4, 5], sampling))[0].token_ids for m in (llm, again)]
    assert tokens[0] == tokens[1]


def test_measuring_is_no_part_of_loading(
    engine: Build, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> Costs:
        time.sleep(0.2)
        return Costs()

    monkeypatch.setattr(calibrate, "measure", slow)
    began = time.perf_counter()
    llm = engine()
    assert 0 < llm.load_seconds <= time.perf_counter() - began - 0.2


def test_where_it_is_not_measured(
    engine: Build, cache: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine(calibrate=False).costs.matmul_peak == 0
    monkeypatch.setenv("PLAIT_CALIBRATE", "off")
    llm = engine()
    assert llm.costs.matmul_peak == 0 and not measured and not cache.exists()
    assert llm.calibrate().step == 0.25 and llm.costs.step == 0.25
    assert engine().costs.step == 0.25, "what is on disk is read all the same"


def test_what_was_measured_on_a_busy_machine_is_measured_again_on_a_calm_one(
    engine: Build, cache: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "contended", lambda: True)
    for _ in range(2):
        assert engine().costs.step == 0.25
    assert len(measured) == 1, "busy still"
    monkeypatch.setattr(calibrate, "contended", lambda: False)
    for _ in range(2):
        engine()
    assert len(measured) == 2
    assert engine(calibrate=False).costs.step == 0.25


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"conditions": {}}', '{"costs": {"step": 1}, "conditions": 5}']
)
def test_a_broken_file_is_measured_again(
    engine: Build, cache: Path, measured: list[str], text: str
) -> None:
    engine()
    (file,) = cache.iterdir()
    file.write_text(text)
    assert engine().costs.step == 0.25 and len(measured) == 2
    assert json.loads(file.read_text())["costs"]["step"] == 0.25


@pytest.mark.parametrize("bad", [{"offload": 0}, {"step": -1.0}, {"token": float("nan")}])
def test_numbers_that_cannot_be_are_measured_again(
    engine: Build, cache: Path, measured: list[str], bad: dict[str, float]
) -> None:
    engine()
    (file,) = cache.iterdir()
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "costs": {**found["costs"], **bad}}))
    engine()
    assert len(measured) == 2


def test_what_costs_are_known_by(
    engine: Build, cache: Path, measured: list[str], model_path: Callable[[str], Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    engine()
    copy = tmp_path / "copy"
    shutil.copytree(model_path("llama"), copy)
    LLM(copy).close()
    assert len(measured) == 1, "the same model at another path"
    engine(dtype="bfloat16")
    assert len(measured) == 2
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps"', ' "rms_norm_eps"'))
    LLM(copy).close()
    assert len(measured) == 3
    other = Native(None if native().library else ctypes.CDLL(None), "")
    for place, name, value in (
        (calibrate, "native", lambda: other),
        (calibrate, "_version", lambda: "another"),
        (cost_file, "WAY", cost_file.WAY - 1),
        (torch, "__version__", f"{torch.__version__}.1"),
        (torch, "get_num_threads", lambda: 77),
    ):
        before = len(measured)
        with monkeypatch.context() as changed:
            changed.setattr(place, name, value)
            LLM(copy).close()
            assert len(measured) == before + 1, name
    LLM(copy).close()
    assert len(measured) == 8
    told = len(list(cost_file.everything()))
    monkeypatch.setattr(cost_file, "WAY", cost_file.WAY + 1)
    assert told and not list(cost_file.everything()), "measured in another way than now"


def test_where_nothing_can_be_written(
    engine: Build, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("PLAIT_CALIBRATE", "1")
    assert engine().costs.step == engine().costs.step == 0.25
    assert len(measured) == 1


def test_a_model_that_cannot_be_measured_runs(
    engine: Build, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Costs:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(calibrate, "measure", broken)
    assert engine().costs.matmul_peak == 0
    assert "no such operator" in caplog.text


def test_what_takes_too_long_is_reckoned(engine: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large to be timed in a few seconds, and a pool too small for the steps."""
    timed: list[object] = []

    def half_a_second(*what: object) -> float:
        timed.append(what)
        return 0.5

    monkeypatch.setattr(calibrate, "time_of", half_a_second)
    llm = engine(kv_memory=48 * 256)
    parts = llm._loaded, llm._runner, llm._tree.allocator, llm._work
    costs = llm._thread.call(lambda: calibrate.measure(*parts, budget=0.0))  # type: ignore[arg-type]
    assert len(timed) == 2, "the copies only"
    assert costs.token > 0 and costs.step + costs.decode_row > 0
    llm._thread.call(lambda: calibrate.measure(*parts, budget=60.0))  # type: ignore[arg-type]
    assert len(timed) == 4, "three pages hold none of the steps"
    assert costs.load == llm.costs.load and asdict(costs).keys() == asdict(llm.costs).keys()


def test_a_first_step_is_not_counted(engine: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is faulted in: of one round only, it would be all that is known."""

    class Cold:
        met: set[object] = set()

        def __init__(self, *_: object) -> None:
            pass

        def prefill(self, *point: int) -> float:
            return self.decode(*point, 1)[0]

        def decode(self, *point_and_steps: int) -> list[float]:
            *point, steps = point_and_steps
            warm = tuple(point) in self.met
            self.met.add(tuple(point))
            return [1e-3 if warm or n else 100.0 for n in range(steps)]

    monkeypatch.setattr(calibrate, "Feigned", Cold)
    monkeypatch.setattr(calibrate, "ROUNDS", 1)
    llm = engine()
    parts = llm._loaded, llm._runner, llm._tree.allocator, llm._work
    costs = llm._thread.call(lambda: calibrate.measure(*parts, budget=60.0))  # type: ignore[arg-type]
    assert Cold.met >= {(1, 64), (1, 64, 0)}
    assert costs.prefill_seconds(64) < 0.01 and costs.decode_seconds(1, 64) < 0.01


def test_what_is_lost_without_a_pin_is_the_way_back_that_eviction_takes() -> None:
    costs = Costs(step=0.0, token=1e-3, restore=1e6, offload=1e6, kv_bytes=100)
    assert costs.loss(100, host=False) == costs.prefill_seconds(100) > 0.1
    assert costs.loss(100, host=True) == pytest.approx(0.02)
    slow = replace(costs, offload=1e3)
    assert slow.loss(100, host=True) == slow.prefill_seconds(100), "it would not go there"


def test_the_cheaper_of_restoring_and_computing() -> None:
    costs = Costs(token=1e-3, restore=1e6, offload=1e6, kv_bytes=100)
    assert costs.restore_pays(100, 0) and costs.offload_pays(100, 0)
    assert costs.way_out(100, 0, host=True).to_host
    assert not costs.way_out(100, 0, host=False).to_host
    slow = Costs(token=1e-6, restore=1e6, offload=1e6, kv_bytes=100)
    assert not slow.restore_pays(100, 0) and not slow.offload_pays(100, 0)
    assert not slow.way_out(100, 0, host=True).to_host
    assert slow.way_out(100, 2048, host=True).compute > slow.way_out(100, 0, host=True).compute
