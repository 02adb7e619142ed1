"""Rows that go wrong: each fails alone, and says why."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, field_validator

import plait
from plait import Engine, llm, tool, workflow
from plait.engine.loading import load
from plait.testing import FakeBackend, from_function, prompt_text

from .operators import Facts, draft, extract, upper, words


def test_map_wider_than_its_bound_fails_the_row(engine: Engine) -> None:
    @workflow
    def mapped(text: str) -> list[str]:
        return plait.map(upper, words(text), max_width=2)

    run = engine.run(mapped, [{"text": "a b"}, {"text": "a b c"}])
    assert run.rows[0].output == ["A", "B"]
    failure = run.rows[1].error
    assert failure is not None and failure.type == "LimitError" and failure.node == "map_upper"


def test_typed_results_are_validated() -> None:
    @llm
    def verdict(text: str) -> Literal["yes", "no"]:
        return plait.prompt(plait.user(text))

    @llm(max_tokens=5)
    def count(text: str) -> int:
        return plait.prompt(plait.user(text))

    answers = {"good": '{"names": ["a", "b"]}', "bad": "not json", "yes": "yes", "7": "7"}
    backend = FakeBackend(lambda call: answers[prompt_text(call).split()[-1]])
    with Engine(backend=backend) as engine:
        run = engine.run(extract, [{"text": "good"}, {"text": "bad"}])
        assert run.rows[0].output == Facts(names=["a", "b"])
        assert run.rows[0].as_json()["output"] == {"names": ["a", "b"]}
        failure = run.rows[1].error
        assert failure is not None and failure.type == "OutputError"
        assert "not json" in failure.message and failure.node == "extract"
        assert engine.call(verdict, text="yes") == "yes"
        assert engine.call(count, text="7") == 7
        assert engine.run(verdict, [{"text": "7"}]).rows[0].error is not None


def test_a_bad_row_harms_only_itself(engine: Engine) -> None:
    @workflow
    def shout(text: str) -> list[str]:
        return plait.map(upper, words(text))

    rows: list[Any] = [{"text": "a"}, {"text": "boom"}, {"txt": "a"}, {"text": 3},
                       plait.InputError("line 5 is not JSON"), {"text": "b"}]  # fmt: skip
    run = engine.run(shout, rows)
    kinds = [r.error.type if r.error else None for r in run]
    assert kinds == [None, "ToolError", "InputError", "InputError", "InputError", None]
    failure = run.rows[1].error
    assert failure is not None and failure.node == "map_upper[0]/upper"
    assert run.stats.errors == {"ToolError": 1, "InputError": 3}
    assert (run.stats.rows_ok, run.stats.rows_failed, run.stats.rows_running) == (2, 4, 0)


def test_output_that_cannot_be_json_is_a_row_error(engine: Engine) -> None:
    @workflow
    async def odd(text: str) -> Any:
        return object() if text == "object" else float(text)

    run = engine.run(odd, [{"text": "object"}, {"text": "nan"}, {"text": "1.5"}])
    assert [r.status for r in run] == ["error", "error", "ok"]
    assert {r.error.type for r in run.failed if r.error} == {"OutputError"}


def test_an_error_cancels_what_else_the_row_has_under_way(engine: Engine) -> None:
    cancelled = []

    @tool(effect="pure")
    async def slow(text: str) -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(text)
            raise
        return text

    @workflow
    def both(text: str) -> list[str]:
        return [slow(text), upper(text)]

    start = time.perf_counter()
    run = engine.run(both, [{"text": "boom"}])
    assert not run.rows[0].ok and cancelled == ["boom"]
    assert time.perf_counter() - start < 5


OUT_OF_TEXT = """
workflow: first
inputs: {topic: string}
nodes:
  facts: {llm: "names of {{topic}}", schema: {names: [string]}}
output: "First: {{facts.names[0]}}"
"""


def test_an_output_that_cannot_be_made_fails_its_row(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(OUT_OF_TEXT)
    first = load(str(tmp_path / "first.yaml")).workflow
    answers = {"names of a": '{"names": ["Ann"]}', "names of b": '{"names": []}'}
    backend = FakeBackend(from_function(lambda text: answers[text.strip()]))
    with Engine(backend=backend) as engine:
        run = engine.run(first, [{"topic": "a"}, {"topic": "b"}])
    assert run.rows[0].output == "First: Ann"
    error = run.rows[1].error
    assert error is not None and error.type == "OutputError"


class Careless(BaseModel):
    name: str

    @field_validator("name", mode="before")
    def stripped(cls, value: Any) -> Any:
        return value.strip()


def test_a_validator_that_breaks_fails_its_row_alone(engine: Engine) -> None:
    @workflow
    def flow(item: Careless) -> str:
        return draft(item.name)

    run = engine.run(flow, [{"item": {"name": n}} for n in (" a ", None, "b")])
    assert [row.ok for row in run.rows] == [True, False, True]
    error = run.rows[1].error
    assert error is not None and error.type == "InputError" and "AttributeError" in error.message
