"""A run says before its first row which prompts its models will refuse, and looks no further than
it has to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, workflow
from plait.dag.errors import InputError
from plait.dag.messages import Prompt
from plait.dag.workflow import as_workflow
from plait.engine import forewarning
from plait.engine.backends.local import LocalBackend
from plait.engine.oversized import Search
from plait.engine.row import Item, RowIn

from .llm import models


@llm(max_tokens=4)
def draft(topic: str) -> str:
    return f"About {topic}"


@llm(max_tokens=4)
def review(text: str, topic: str) -> str:
    return f"{text} of {topic}"


@workflow
def report(topic: str) -> Any:
    return review(draft(topic), topic)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with Engine(model=path, kv_memory=300_000) as engine:
        yield engine


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "plait"]


LONG = "x" * 6_000


def test_a_run_names_what_is_too_long_before_it_begins(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"topic": "a"}, {"id": "long", "topic": LONG}, {"topic": LONG[1:]}]
    run = engine.run(report, rows)
    (line,) = told(caplog)
    for node in ("draft", "review"):
        assert f"too long: {node}, row 'long' (and those of 1 other row): the prompt has" in line
    assert [row.ok for row in run] == [True, False, False]
    caplog.clear()
    engine.run_together([(report, rows[:1]), (draft, rows)])
    (line,) = told(caplog)
    assert "draft" in line and "review" not in line


def test_nothing_is_said_of_what_fits_or_is_not_planned(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.run(report, [{"topic": "a"}])
    engine.run(report, [{"topic": LONG}], plan=False)
    engine.call(draft, topic="a")
    assert told(caplog) == []


def test_rows_keep_the_identity_that_their_results_carry(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[RowIn] = [InputError("no row"), Item(7, 7, {"topic": LONG})]
    engine.run(draft, rows)
    assert "row 7:" in told(caplog)[0]


def test_short_rows_are_not_looked_at(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(Search, "look", lambda self, place, row: looked.append(place))
    engine.generate("warm up", max_tokens=1)
    few = [{"topic": "a"}] * 50 + [{"topic": LONG}] * 3
    many = [{"topic": LONG}] * 40
    numbers = []
    for rows in (few, many, few):
        asyncio.run(forewarning.forewarn(report.workflow, rows, engine.backend))
        monkeypatch.setattr(forewarning, "ROWS", 50)
        numbers.append(len(looked))
        looked.clear()
    assert numbers == [3, forewarning.FIRST, 0], "the last batch has too many rows"


def test_no_more_is_read_than_takes_a_moment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forewarning, "CHARACTERS", 30_000)
    monkeypatch.setattr(forewarning, "FIRST", 2)
    engine.generate("warm up", max_tokens=1)
    rows = [{"topic": LONG + "y" * n} for n in range(20)]
    asyncio.run(forewarning.forewarn(as_workflow(draft), rows, engine.backend))
    assert "row 19 (and those of 4 other rows)" in told(caplog)[0]


@workflow
def mapped(topics: list[str], shared: str) -> Any:
    return plait.map(review, topics, text=shared)


def test_neither_a_map_over_many_items_nor_a_second_look_takes_longer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(engine.backend, LocalBackend)
    reader = engine.backend.llm("default")
    read, encode = list[int](), reader.encode

    def noted(prompt: Prompt, *more: Any) -> list[int]:
        assert not isinstance(prompt, str)
        read.append(sum(len(message.content) for message in prompt))
        return encode(prompt, *more)

    monkeypatch.setattr(reader, "encode", noted)
    rows = [{"topic": LONG + "y" * n} for n in range(20)]
    asyncio.run(forewarning.forewarn(as_workflow(draft), rows, engine.backend))
    assert sorted(read) == [len("About ") + len(row["topic"]) for row in rows]
    assert "row 19 (and those of 19 other rows)" in told(caplog)[0]
    read.clear()
    monkeypatch.setattr(forewarning, "CHARACTERS", 30_000)
    many = [{"topics": ["a"] * 400, "shared": LONG}] * 3
    asyncio.run(forewarning.forewarn(as_workflow(mapped), many, engine.backend))
    assert 20_000 < sum(read) < 30_000 + 2 * len(LONG)
    assert "too long: map_review/review, row 0:" in told(caplog)[1]


def test_what_cannot_be_measured_fails_no_run(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Search, "look", lambda *_: 1 / 0)
    one, two = engine.run(draft, [{"topic": "a"}, {"topic": LONG}])
    assert one.ok and not two.ok and "prompts were not measured before the run" in told(caplog)[0]
