"""Workflows on the local engine: a tiny random model, through the same door as any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import plait
from plait import Engine, llm, workflow
from plait.engine.backends.shelving import kv_share

from .llm import models


class Point(BaseModel):
    x: bool
    y: bool


@llm(max_tokens=6)
def draft(topic: str) -> str:
    return f"about {topic}"


@llm(max_tokens=5)
def review(text: str) -> str:
    return plait.prompt(plait.system("Review."), plait.user(text))


@llm(max_tokens=40)
def point(text: str) -> Point:
    return plait.prompt(plait.user(text))


@workflow
def chain(topic: str) -> str:
    return review(draft(topic))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model=model) as engine:
        yield engine


def rows(count: int) -> list[dict[str, Any]]:
    return [{"topic": f"topic {i % 3}"} for i in range(count)]


def test_a_batch_gives_what_single_calls_give(engine: Engine) -> None:
    run = engine.run(chain, rows(9))
    assert [r.status for r in run] == ["ok"] * 9
    alone = [engine.call(chain, topic=f"topic {i}") for i in range(3)]
    assert run.outputs == alone * 3
    usage = run.rows[0].usage
    assert 0 < usage.completion_tokens <= 11
    assert run.stats.completion_tokens == sum(r.usage.completion_tokens for r in run)


def test_sampling_does_not_depend_on_the_batch(engine: Engine) -> None:
    @llm(max_tokens=8, temperature=1.0)
    def sample(topic: str) -> str:
        return f"about {topic}"

    @llm(max_tokens=8, temperature=1.0, n=2)
    def pair(topic: str) -> list[str]:
        return plait.prompt(plait.user(topic))

    many = engine.run(sample, rows(6))
    few = engine.run(sample, rows(2))
    assert many.outputs[:2] == few.outputs
    assert len(set(many.outputs)) > 3
    first, second = engine.call(pair, topic="x")
    assert first != second


def test_json_types_come_back_validated(engine: Engine) -> None:
    pytest.importorskip("llguidance")
    run = engine.run(point, [{"text": str(i)} for i in range(4)])
    for row in run:
        ended_early = row.error is not None and row.error.type == "GenerationError"
        assert ended_early or isinstance(row.output, Point)
    assert any(row.ok for row in run)


def test_a_prompt_that_is_too_long_harms_only_its_row(engine: Engine) -> None:
    long = {"topic": "x" * 20_000}
    huge = {"topic": "x" * 10_000_000}
    run = engine.run(draft, [{"topic": "a"}, long, huge, {"topic": "b"}])
    assert [r.error.type if r.error else None for r in run] == [
        None, "PromptError", "PromptError", None,
    ]  # fmt: skip
    assert all("context" in r.error.message for r in run.failed if r.error)


def test_generate_takes_texts_and_token_ids(engine: Engine) -> None:
    by_text = engine.generate("abc", max_tokens=4)[0]
    ids = engine.backend.llm("default").encode("abc")  # type: ignore[attr-defined]
    by_ids = engine.generate(ids, max_tokens=4)[0]
    assert by_text.token_ids == by_ids.token_ids and len(by_text.token_ids) <= 4
    assert by_text.usage.prompt_tokens == len(ids)
    with pytest.raises(plait.PromptError):
        engine.generate([[10**9], ids])
    errors = engine.generate([[10**9], ids], return_errors=True, max_tokens=4)
    assert isinstance(errors[0], plait.PromptError) and errors[1].token_ids == by_ids.token_ids


@pytest.mark.parametrize("linked", [False, True])
def test_aliases(model: Path, tmp_path: Path, linked: bool) -> None:
    @llm(model="small", max_tokens=3)
    def other(topic: str) -> str:
        return topic

    @llm(max_tokens=3)
    def own(topic: str) -> str:
        return topic

    @plait.workflow
    def both(topic: str) -> list[str]:
        return [own(topic), other(topic)]

    small = tmp_path / "link" if linked else model
    if linked:
        small.symlink_to(model)
    with Engine(model=model, models={"small": small}) as engine:
        assert isinstance(engine.call(other, topic="x"), str)
        run = engine.run(both, [{"topic": "x"}, {"topic": "y"}])
        assert [one == two for one, two in run.outputs] == [True, True]
        assert {name: seen.merged for name, seen in run.stats.nodes.items()} in (
            {"own": 0, "other": 2},
            {"own": 2, "other": 0},
        )
    with Engine(model=model) as engine, pytest.raises(plait.ConfigError, match="'small'"):
        engine.run(other, [{"topic": "x"}])


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(plait.ModelError, match="no model at"):
        Engine(model=tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(plait.ModelError, match="is a file"):
        Engine(model=tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with (
        Engine(model=tmp_path / "empty") as engine,
        pytest.raises(plait.ModelError, match="config"),
    ):
        engine.run(draft, [{"topic": "x"}])


def test_models_take_turns_under_one_memory_limit(model: Path, tmp_path: Path) -> None:
    other = models.save_with_tokenizer(tmp_path / "other")

    @llm(model="second", max_tokens=5)
    def second(text: str) -> str:
        return text

    @workflow
    def both(topic: str) -> list[str]:
        first = draft(topic)
        return [first, second(first), draft(second(topic))]

    two = {"default": model, "second": other}
    with Engine(models=two) as engine:
        free = engine.run(both, rows(4))
        assert len(engine.backend.describe()["loaded"]) == 2
    small = 40_000
    with Engine(models=two, kv_memory=small) as engine:
        need = engine.backend.llm("default").memory_bytes  # type: ignore[attr-defined]
    with Engine(models=two, kv_memory=small, memory=need * 3 // 2) as engine:
        tight = engine.run(both, rows(4))
        described = engine.backend.describe()
    assert tight.outputs == free.outputs and len(described["loaded"]) == 1
    assert sum(cost["loads"] for cost in described["loads"].values()) >= 3
    with Engine(models=two, memory=1000) as engine, pytest.raises(plait.ModelError, match="limit"):
        engine.run(both, rows(1))


def test_kv_share() -> None:
    assert kv_share(1000, [100, 300]) == (980 - 400) // 2
    assert kv_share(1000, [600, 700]) == 980 - 700
    assert kv_share(1000, [2000]) == 0
