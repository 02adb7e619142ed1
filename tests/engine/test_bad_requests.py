"""Bad requests through the public door: a typed error for that request or at load, and the engine
goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import plait
from plait import Engine

from .llm import models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model=model, kv_memory=20 * 16 * 256) as engine:
        yield engine


def is_alive(engine: Engine) -> bool:
    llm: Any = engine.backend.llm("default")  # type: ignore[attr-defined]
    counters = llm.counters()
    assert (counters.running, counters.waiting, counters.held_pages) == (0, 0, 0)
    return len(engine.generate([5, 6, 7], max_tokens=2, ignore_eos=True)[0].token_ids) == 2


Prompt = str | list[int]


@pytest.mark.parametrize(
    ("prompt", "settings", "kind", "words"),
    [
        ([3, 264], {}, plait.PromptError, "outside the vocabulary"),
        ([-1], {}, plait.PromptError, "outside the vocabulary"),
        ("", {}, plait.PromptError, "empty"),
        ([3] * 512, {}, plait.PromptError, "context"),
        ("x" * 600, {}, plait.PromptError, "context"),
        ([3] * 330, {}, plait.PromptError, "KV memory"),
        ([3] * 310, {"max_tokens": 60}, plait.GenerationError, "for 321 tokens .* room for 320"),
        ("a", {"max_tokens": 0}, plait.ConfigError, "max_tokens"),
        ("a", {"max_tokens": -3}, plait.ConfigError, "max_tokens"),
        ("a", {"temperature": -0.1}, plait.ConfigError, "temperature"),
        ("a", {"temperature": float("nan")}, plait.ConfigError, "temperature"),
        ("a", {"top_p": 0.0}, plait.ConfigError, "top_p"),
        ("a", {"n": 3}, plait.ConfigError, "n=3 with temperature=0"),
        ("a", {"regex": "a", "choice": ["a"]}, plait.ConfigError, "only one of"),
        ("a", {"stop": [""]}, plait.ConfigError, "stop"),
        ("a", {"stop_token_ids": [-1]}, plait.PromptError, "stop_token_ids: -1 is outside"),
        ("a", {"stop_token_ids": [3, 10**9]}, plait.PromptError, "1000000000 is outside"),
        ("a", {"temprature": 1.0}, plait.ConfigError, "temprature"),
        ("a", {"json_schema": {"type": "nonsense"}}, plait.PromptError, "schema is invalid"),
        ("a", {"json_schema": {"enum": []}}, plait.PromptError, "constraint"),
        (
            "a",
            {"json_schema": {"type": "integer", "minimum": 5, "maximum": 1}},
            plait.PromptError,
            "Unsatisfiable",
        ),
        (
            "a",
            {"json_schema": {"type": "string", "minLength": 50}, "max_tokens": 9},
            plait.GenerationError,
            "ended before",
        ),
    ],
)
def test_a_bad_request_is_a_typed_error(
    engine: Engine, prompt: Prompt, settings: dict[str, Any], kind: type[Exception], words: str
) -> None:
    pytest.importorskip("llguidance")
    prompts: Any = [prompt]
    with pytest.raises(kind, match=words):
        engine.generate(prompts, **{"max_tokens": 4, "ignore_eos": "json_schema" not in settings}
                        | settings)  # fmt: skip
    assert is_alive(engine)


def test_a_bad_prompt_harms_no_other(engine: Engine) -> None:
    prompts = [[5, 6], [10**9], [5, 6] * 400, [7]]
    found = engine.generate(prompts, return_errors=True, max_tokens=3, ignore_eos=True)
    assert [isinstance(one, plait.PromptError) for one in found] == [False, True, True, False]
    assert [len(found[i].token_ids) for i in (0, 3)] == [3, 3]


def test_tenants_share_no_kv(engine: Engine) -> None:
    usage = [
        engine.salted(salt).generate([[9] * 100], max_tokens=1)[0].usage.cached_tokens
        for salt in ("a", "a", "b", "b", "")
    ]
    assert usage == [0, 99, 0, 99, 0]


def test_a_raw_schema_is_not_ignored_where_it_cannot_be_enforced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(plait.PromptError, match=r"plait\[json\]"):
        engine.generate("a", json_schema={"type": "integer"})


def spoil(place: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = place / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})


def cut_short(place: Path) -> None:
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def forget_the_config(place: Path) -> None:
    (place / "config.json").write_text(json.dumps({"model_type": "nothing known"}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "demo", "models": {"default": "x"}}, "model='demo' and models={'default': 'x'}"),
        ({"device": "cpu", "devices": ["cpu"]}, r"device='cpu' and devices=\['cpu'\]"),
    ],
)
def test_settings_that_contradict_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(plait.ConfigError, match=f"{words} contradict"):
        Engine(**given)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (spoil, "not numbers"),
        (cut_short, "cannot load the model"),
        (forget_the_config, "cannot read the model"),
    ],
)
def test_a_bad_model_is_an_error_at_load_and_harms_no_other(
    model: Path, tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(model, bad)
    harm(bad)
    with Engine(models={"default": model, "bad": bad}) as engine:
        assert is_alive(engine)
        for _ in range(2):
            with pytest.raises(plait.ModelError, match=words):
                engine.generate([5], model="bad", max_tokens=2)
        assert is_alive(engine)


def test_out_of_memory_at_load(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in the weights, once in the KV pool; when there is room again the model loads."""
    real = AutoModelForCausalLM.from_pretrained
    failing = [torch.OutOfMemoryError("no room"), MemoryError()]

    def full(*args: Any, **more: Any) -> Any:
        if failing:
            raise failing.pop()
        return real(*args, **more)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    with Engine(model=model) as engine:
        for _ in range(2):
            with pytest.raises(plait.ModelError, match="not enough memory"):
                engine.generate([5], max_tokens=2)
        assert is_alive(engine)
    for size, words in (("900TB", "bytes are free"), (100, "give more")):
        with (
            Engine(model=model, kv_memory=size) as engine,
            pytest.raises(plait.ModelError, match=words),
        ):
            engine.generate([5], max_tokens=2)


def test_out_of_memory_in_the_pool(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plait.engine.llm import pool

    def full(*_: Any) -> Any:
        raise MemoryError

    with Engine(model=model) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(pool.Pool, "_empty", full)
            with pytest.raises(plait.ModelError, match="not enough memory"):
                engine.generate([5], max_tokens=2)
        assert is_alive(engine)


def test_a_host_tier_through_the_engine(model: Path) -> None:
    """Little KV memory with room on the host: the same tokens, and what was moved is counted."""
    prompts = [[5 + i] * 100 for i in range(6)]
    settings: dict[str, Any] = {"max_tokens": 12, "ignore_eos": True}
    with Engine(model=model) as engine:
        wanted = [g.token_ids for g in engine.generate(prompts, **settings)]
    with Engine(model=model, kv_memory=16 * 16 * 256, host_memory="1MB") as engine:
        llm: Any = engine.backend.llm("default")  # type: ignore[attr-defined]
        llm.costs = replace(llm.costs, token=1.0)
        for _ in range(2):
            assert [g.token_ids for g in engine.generate(prompts, **settings)] == wanted
        counters = llm.counters()
        assert counters.offloaded_pages > 0 and counters.restored_pages > 0
    with (
        Engine(model=model, host_memory="900TB") as engine,
        pytest.raises(plait.ModelError, match="host"),
    ):
        engine.generate([5], max_tokens=2)
