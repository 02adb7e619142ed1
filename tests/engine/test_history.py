"""What runs have shown: known to later runs of the engine, and kept in a folder of runs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from plait import ConfigError, Engine, llm, tool, workflow
from plait.dag.expected import FEW
from plait.dag.nodes import Workflow
from plait.dag.observed import Observed
from plait.dag.workflow import as_workflow
from plait.engine import history
from plait.engine.backends.backend import Call
from plait.engine.generation import Generation
from plait.testing import FakeBackend, assert_same_rows

from .llm import models
from .test_trials import PAGE, ROWS, asked

TOPICS = [{"topic": f"topic {i}"} for i in range(FEW)]


@llm(max_tokens=100)
def draft(topic: str) -> str:
    return f"about {topic}"


@llm(max_tokens=100)
def other(topic: str) -> str:
    return f"another of {topic}"


@tool(effect="pure")
def shout(text: str) -> str:
    return text.upper()


@workflow
def report(topic: str) -> str:
    return shout(draft(topic))


class Noting(FakeBackend):
    """Notes how long answers are expected to be."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[int | None] = []

    async def generate(self, call: Call) -> list[Generation]:
        self.expected.append(call.expected)
        return await super().generate(call)

    def told(self) -> set[int | None]:
        """What was expected since it was asked last."""
        found, self.expected = set(self.expected), []
        return found


def test_a_second_run_is_tried_in_virtual_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.engine.trials.SHARE", 100.0)
    with Engine(model=models.save_with_tokenizer(tmp_path), kv_memory=24 * PAGE) as engine:
        first = engine.run(asked, ROWS)
        assert first.plan.trials is None, "nothing is known yet"
        second = engine.run(asked, ROWS)
        told = engine.explain(asked, ROWS)
        plain = engine.run(asked, ROWS, plan=False)
    assert second.plan.trials is not None and second.plan.trials.orders > 1
    assert told.trials is not None and "order of rows: " in str(told)
    assert_same_rows(first.rows, second.rows)
    assert_same_rows(first.rows, plain.rows)


@pytest.mark.parametrize("plan", [True, False])
def test_whatever_asks_after_a_run_knows_how_long_answers_were(plan: bool) -> None:
    backend = Noting()
    with Engine(backend=backend) as engine:
        engine.run(draft, TOPICS[:-1], plan=plan)
        engine.run(draft, TOPICS[-1:], plan=plan)
        assert backend.told() == {None}, "so few say nothing"
        engine.run(draft, TOPICS)
        assert backend.told() == {3}
        list(engine.stream(draft, TOPICS))
        engine.call(draft, topic="x")
        engine.run_together([(draft, TOPICS)])
        engine.salted("tenant").run(report, TOPICS)
        assert backend.told() == {3}
        engine.run(other, TOPICS)
        assert backend.told() == {None}, "of another operator nothing is known"


def test_runs_together_are_learned_from() -> None:
    backend = Noting()
    with Engine(backend=backend) as engine:
        engine.run_together([(draft, TOPICS), (other, TOPICS)])
        assert backend.told() == {None}
        engine.run(other, TOPICS)
        assert backend.told() == {4}


async def test_runs_that_go_on_at_once_are_all_learned_from() -> None:
    backend = Noting()
    async with Engine(backend=backend) as engine:
        await asyncio.gather(*(engine.arun(draft, [row]) for row in TOPICS))
        assert backend.told() == {None}
        await engine.arun(draft, TOPICS)
        assert backend.told() == {3}


def test_what_is_said_goes_before_what_was_seen_and_only_for_its_run(tmp_path: Path) -> None:
    said = {"read": 6, "reply": 6, "look_up": 20.0}
    with Engine(model=models.save_with_tokenizer(tmp_path), kv_memory=24 * PAGE) as engine:
        engine.generate("warm up", max_tokens=1)
        told = engine.explain(asked, ROWS, expect=said).trials
        assert told is not None and told.seconds > 20.0
        run = engine.run(asked, ROWS, expect=said)
        assert run.plan.trials is not None and run.plan.trials.seconds > 20.0
        quick = engine.explain(asked, ROWS).trials
        assert quick is None or quick.seconds < 20.0


def test_what_cannot_be_said_is_refused_at_once(engine: Engine) -> None:
    wrong: Any = {"draft": 400, "drfat": 1, "shout": "long"}
    with pytest.raises(ConfigError) as caught:
        engine.run(report, TOPICS, expect=wrong)
    for what in ("draft=400 contradicts its max_tokens=100", "'drfat'", "'shout=long' is not"):
        assert what in str(caught.value)
    assert "--expect" not in str(caught.value)
    unnamed: Any = ["draft=40"]
    with pytest.raises(ConfigError, match="is no mapping"):
        engine.explain(report, TOPICS, expect=unnamed)


def test_operators_that_ran_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 1)
    backend = Noting()
    with Engine(backend=backend) as engine:
        for target in (draft, other, draft):
            engine.run(target, TOPICS)
    assert backend.told() == {None}


# -- in a folder -------------------------------------------------------------------------------


def test_an_engine_keeps_up_the_history_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for expected in ({None}, {3}):
        backend = Noting()
        with Engine(backend=backend, history=folder) as engine:
            engine.run(draft, TOPICS)
        assert backend.told() == expected
    (seen,) = history.read(folder).values()
    assert seen.answers.count == 2 * FEW
    backend = Noting()
    with Engine("another", backend=backend, history=str(folder)) as engine:
        engine.run(draft, TOPICS)
    assert backend.told() == {None}, "of another model nothing is known"
    with pytest.raises(ConfigError, match="is a file: give the folder"):
        Engine(backend="fake", history=folder / history.NAME)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with Engine(backend="fake") as engine:
        engine.run(draft, TOPICS)
    assert list(tmp_path.iterdir()) == []


def shown() -> tuple[Workflow, dict[str, Any]]:
    with Engine(backend="fake") as engine:
        return as_workflow(draft), engine.run(draft, TOPICS).stats.as_json()


def made(folder: Path, *runs: str) -> Sequence[Path]:
    paths = [folder / run for run in runs]
    for path in paths:
        path.mkdir(parents=True)
        (path / "run.json").write_text("{}")
    return paths


def test_a_run_is_added_to_the_history_of_the_runs_beside_it(tmp_path: Path) -> None:
    graph, stats = shown()
    for run in made(tmp_path / "out", "a", "b"):
        history.learn(run, graph, stats, {})
    (seen,) = history.read(tmp_path / "out").values()
    assert seen.answers.count == 2 * FEW
    (tmp_path / "out" / "notes.txt").touch()
    history.learn(tmp_path / "out" / "b", graph, stats, {})
    (seen,) = history.read(tmp_path / "out").values()
    assert seen.answers.count == 3 * FEW, "there is a history already"


def test_beside_anything_else_nothing_is_written(tmp_path: Path) -> None:
    graph, stats = shown()
    (run,) = made(tmp_path / "home", "run")
    (tmp_path / "home" / "notes.txt").touch()
    history.learn(run, graph, stats, {})
    assert {path.name for path in run.parent.iterdir()} == {"run", "notes.txt"}
    (run.parent / history.NAME).touch()  # an empty one is enough to ask for it
    history.learn(run, graph, stats, {})
    assert history.read(run.parent)
    (named,) = made(tmp_path / "runs", "run")
    (tmp_path / "runs" / "notes.txt").touch()
    history.learn(named, graph, stats, {})
    assert history.read(named.parent)


def test_runs_that_end_together_are_all_added(tmp_path: Path) -> None:
    def add(number: int) -> None:
        for _ in range(5):
            seen = Observed()
            seen.answers.add(number)
            history.add(tmp_path, {"llm-one": seen})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert history.read(tmp_path)["llm-one"].answers.count == 30
    assert json.loads((tmp_path / history.NAME).read_text())["operators"]
