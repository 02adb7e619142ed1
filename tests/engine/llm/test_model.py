"""Loading: what runs, on which forward, and what is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from plait.dag.errors import ConfigError, ModelError
from plait.dag.sampling import Sampling
from plait.engine.llm import LLM
from plait.engine.llm.dense import Dense
from plait.engine.llm.forward import FamilyForward
from plait.engine.llm.lean import LEAN_FAMILIES, LeanModel
from plait.engine.llm.memory import parse_bytes
from plait.engine.llm.model import estimate_bytes, load
from plait.engine.llm.native import native
from plait.engine.llm.native.decoder import OwnDecoder

from . import models


def refused(path: Path | str, words: str, **settings: object) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        LLM(path, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def change_config(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_path_that_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "does not exist")
    refused("nowhere", "does not exist")
    refused(tmp_path, "no config.json")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    models.save("llama", tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    weights.unlink()
    refused(tmp_path, "pickled")


def test_a_model_that_brings_code_is_refused(tmp_path: Path) -> None:
    models.save("llama", tmp_path)
    change_config(tmp_path, auto_map={"AutoModelForCausalLM": "evil.Model"})
    refused(tmp_path, "own code")
    change_config(tmp_path, model_type="a_family_of_its_own")
    refused(tmp_path, "own code")


@pytest.mark.parametrize(
    ("family", "words"),
    [("bloom", "attention cannot be replaced"), ("mamba", "family 'mamba' is unsupported")],
)
def test_families_that_would_run_wrongly_are_refused(
    family: str, words: str, tmp_path: Path
) -> None:
    config = AutoConfig.for_model(family, vocab_size=64, hidden_size=32, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    refused(tmp_path, words)


def test_layers_with_a_state_are_refused(tmp_path: Path) -> None:
    models.save("qwen3", tmp_path)
    change_config(tmp_path, layer_types=["linear_attention", "full_attention"])
    refused(tmp_path, "keep a state|cannot read")


def test_rope_that_looks_at_the_batch_is_refused(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    models.save("llama", tmp_path, rope_parameters=rope)
    refused(tmp_path, "rotary embedding")


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    models.save("llama", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    refused(tmp_path, "not numbers")


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("harm", [float("nan"), float("inf")])
def test_one_bad_number_anywhere_is_found(tmp_path: Path, kind: str, harm: float) -> None:
    """In the embedding of a token that only the request with it would meet."""
    models.save("llama", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.embed_tokens.weight"][100, 5] = harm
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    refused(tmp_path, r"not numbers .*in 'model\.embed_tokens\.weight'", dtype=kind)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 bytes"), "not enough"),
        (torch.OutOfMemoryError("CUDA"), "not enough memory on cpu"),
        (RuntimeError("no such operator"), "cannot load the model .* no such operator"),
    ],
)
@pytest.mark.parametrize("part", ["probe", "lean.LeanModel"])
def test_what_fails_behind_the_weights_is_told(
    model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, part: str,
    error: Exception, words: str,
) -> None:  # fmt: skip
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"plait.engine.llm.model.{part}", fails)
    refused(model_path("llama"), words)


def test_settings_that_cannot_be(model_path: Callable[[str], Path]) -> None:
    refused(model_path("llama"), "no CUDA|not one that torch", device="cuda:7")
    refused(model_path("llama"), "dtype", dtype="int3")
    refused(model_path("llama"), "holds 0 pages", kv_memory=100)
    refused(model_path("llama"), "are free", kv_memory="900TB")
    for nobody in ({"page_size": 0}, {"max_batch_tokens": 0}, {"max_running": -1}):
        with pytest.raises(ConfigError, match="at least 1"):
            LLM(model_path("llama"), **nobody)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="2GB"):
        parse_bytes("lots")
    for bad in (-1, "-1GB", "1.2.3", True, ""):
        with pytest.raises(ConfigError, match="2GB"):
            parse_bytes(bad)
    assert parse_bytes("1.5 GiB") == 3 << 29


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_family_runs_on_its_fastest_forward(
    family: str, model_path: Callable[[str], Path]
) -> None:
    forward = load(model_path(family), "cpu").forward
    if family.removesuffix("_wide") in LEAN_FAMILIES:
        assert isinstance(forward, LeanModel)
        at_once = native().library is not None and family in models.WIDE
        assert (forward.decoder is not None) == at_once
    else:
        assert isinstance(forward, FamilyForward)
        assert any(isinstance(m, Dense) for m in forward.model.modules())


@pytest.mark.skipif(native().library is None, reason="no kernels here")
def test_layers_that_answer_wrongly_at_once_are_called_one_by_one(
    model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        OwnDecoder, "__call__", lambda self, step, rows, turn, keep: torch.zeros(len(keep), 128)
    )
    forward = load(model_path("llama_wide"), "cpu").forward
    assert isinstance(forward, LeanModel) and forward.decoder is None


def test_memory_is_known_before_and_after_loading(
    model_path: Callable[[str], Path], engine: Callable[..., LLM]
) -> None:
    path = model_path("llama")
    llm = engine(kv_memory=256 * 64)
    weights = llm.memory_bytes - 256 * 64
    assert weights == pytest.approx(estimate_bytes(path), rel=0.1)
    more = engine(kv_memory=256 * 64, host_memory=256 * 32)
    assert more.memory_bytes == llm.memory_bytes + 256 * 32, "on a CPU the host tier is beside it"


@pytest.mark.parametrize("ends", [7, [7, 9]])
async def test_end_tokens_come_from_the_model(ends: int | list[int], tmp_path: Path) -> None:
    models.save("llama", tmp_path)
    oracle = models.oracle(tmp_path)
    prompt = [5, 6, 7]
    free = models.plainly(oracle, prompt, 30)
    end = free[6]
    ids = end if isinstance(ends, int) else [end, 127]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    llm = LLM(tmp_path)
    try:
        answer = (await llm.generate(prompt, Sampling(max_tokens=30)))[0]
    finally:
        llm.close()
    assert list(answer.token_ids) == free[: free.index(end) + 1]
    assert answer.finish_reason == "stop"


def test_weights_with_holes_are_refused(tmp_path: Path) -> None:
    models.save("llama", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights.pop("model.embed_tokens.weight")
    save_file(weights, file, {"format": "pt"})
    refused(tmp_path, r"incomplete: it lacks '.*embed_tokens")


def test_attention_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    models.save("bert", tmp_path)
    refused(tmp_path, "family 'bert' is unsupported: its attention looks ahead")
