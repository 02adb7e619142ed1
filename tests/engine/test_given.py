"""What callers hand to an engine that is no row, no prompt, no setting or no workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, assert_type

import pytest

import plait
from plait import ConfigError, Engine, EngineError, InputError, llm, workflow
from plait.testing import FakeBackend


@llm
def draft(topic: str) -> str:
    return f"about {topic}"


@llm
def count(topic: str) -> int:
    return plait.prompt(plait.user(f"count {topic}"))


@workflow
async def both(topic: str) -> list[Any]:
    text, number = await plait.gather(draft.acall(topic), count.acall(topic))
    assert_type(text, str)
    assert_type(number, int)
    many = await plait.gather(*[draft.acall(topic) for _ in range(3)])
    assert_type(many, list[str])
    return [text, number, many]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(backend="fake") as engine:
        yield engine


@pytest.mark.parametrize("rows", [{"topic": "x"}, "topic", b"topic", 3, None])
def test_what_are_no_rows_at_all_is_refused(engine: Engine, rows: Any) -> None:
    with pytest.raises(InputError, match="rows are a list of mappings .* not"):
        engine.run(draft, rows)
    with pytest.raises(InputError, match="rows are a list of mappings .* not"):
        list(engine.stream(draft, rows))


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_row_fails_alone(engine: Engine, lazy: bool) -> None:
    rows: Any = [{"topic": "a"}, None, ["topic"], 3, {"topic": "b"}]
    run = engine.run(draft, (row for row in rows) if lazy else rows)
    assert run.outputs == ["about a", None, None, None, "about b"]
    told = [row.error.message for row in run.failed if row.error]
    assert [text.rpartition("not ")[2] for text in told] == ["None", "list", "int"]
    assert repr(run) == "<run of 5 rows, 3 failed>"  # and not every row of a batch


@pytest.mark.parametrize("prompts", [3, None, [None], [1.5], [["a"]], [[1, "a"]], {"a": 1}, b"a"])
def test_what_is_no_prompt_is_refused(engine: Engine, prompts: Any) -> None:
    with pytest.raises(ConfigError, match="a prompt is a text or a list of token ids, not"):
        engine.generate(prompts)


@pytest.mark.parametrize(
    "sampling",
    [{"max_tokens": "8"}, {"max_tokens": None}, {"max_tokens": 2.0}, {"n": True}, {"top_k": None},
     {"temperature": "hot"}, {"top_p": None}, {"seed": 1.5}, {"logprobs": True}, {"stop": 3},
     {"stop_token_ids": 3}, {"stop_token_ids": ["a"]}, {"choice": 3}],
    ids=str,
)  # fmt: skip
def test_a_setting_of_another_type_is_refused_by_name(engine: Engine, sampling: Any) -> None:
    ((name, value),) = sampling.items()
    with pytest.raises(ConfigError) as caught:
        engine.generate("x", **sampling)
    assert str(caught.value).startswith(f"{name}={value!r} must be ")


def test_an_input_that_the_workflow_has_not_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="'draft' has no input 'topics': did you mean 'topic'?"):
        engine.call(draft, topic="x", topics=["y"])


def test_no_workflow_is_refused_without_a_place_in_foreign_code(engine: Engine) -> None:
    with pytest.raises(plait.WorkflowError) as caught:
        engine.run(3, [])
    (problem,) = caught.value.problems
    assert (problem.message, problem.file) == ("3 is not a workflow", None)


def test_a_closed_engine_says_so_on_every_loop() -> None:
    engine = Engine(backend="fake")
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.call(draft, topic="x")
    with pytest.raises(EngineError, match="the engine is closed"):
        asyncio.run(engine.acall(draft, topic="x"))
    with pytest.raises(EngineError, match="the engine is closed"):
        asyncio.run(engine.arun(draft, [{"topic": "x"}]))
    with pytest.raises(EngineError, match="the engine is closed"):
        asyncio.run(engine.agenerate("x"))


def test_calls_and_gathered_calls_keep_their_types(engine: Engine) -> None:
    assert assert_type(engine.call(draft, topic="x"), str) == "about x"
    assert engine.call(both, topic="x") == ["about x", 0, ["about x"] * 3]


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (["a", "b", "a"], "rows 0 and 2 (counted from 0) have one id, 'a'"),
        ([1, None], "rows 0 and 1 (counted from 0) have one id, 1"),
        ([2, None, None], "rows 0 and 2 (counted from 0) have one id, 2"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_two_rows_of_one_id_are_refused_before_anything_runs(
    ids: list[Any], told: str, lazy: bool
) -> None:
    backend = FakeBackend()
    rows = [{"topic": str(i)} | ({"id": id} if id is not None else {}) for i, id in enumerate(ids)]
    with Engine(backend=backend) as engine:
        with pytest.raises(InputError) as caught:
            engine.run(draft, iter(rows) if lazy else rows)
        with pytest.raises(InputError):
            engine.run_together([(draft, rows)])
        with pytest.raises(InputError):
            engine.stream(draft, rows)
    assert told in str(caught.value) and backend.calls == 0


def test_ids_that_only_look_alike_are_two(engine: Engine) -> None:
    run = engine.run(draft, [{"topic": "a", "id": "1"}, {"topic": "b", "id": 1}, {"topic": "c"}])
    assert [row.id for row in run] == ["1", 1, 2]
