"""What calls ask of a model: constraints, seeds, dynamic prompts, turns of agents."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

import plait
from plait import Engine, llm, tool, workflow
from plait.engine.backends.backend import Call
from plait.testing import FakeBackend, from_function, prompt_text, scripted

from .operators import Facts, extract


def test_types_ask_the_backend_for_constraints() -> None:
    seen: list[Call] = []

    def note(call: Call) -> str:
        seen.append(call)
        return "yes" if call.sampling.choice else '{"names": []}'

    @llm
    def verdict(text: str) -> Literal["yes", "no"]:
        return plait.prompt(plait.user(text))

    with Engine(backend=FakeBackend(note)) as engine:
        engine.call(extract, text="x")
        engine.call(verdict, text="x")
    assert seen[0].sampling.json_schema == Facts.model_json_schema()
    assert seen[1].sampling.choice == ("yes", "no")


def test_dynamic_prompts_render_with_values(engine: Engine) -> None:
    @llm(dynamic=True)
    def careful(text: str) -> str:
        if not text:
            raise ValueError("empty")
        return "short" if len(text) < 3 else text.upper()

    run = engine.run(careful, [{"text": "ab"}, {"text": "abc"}, {"text": ""}])
    assert run.outputs == ["short", "ABC", None]
    failure = run.rows[2].error
    assert failure is not None and failure.type == "PromptError" and "empty" in failure.message


def test_n_gives_a_list() -> None:
    @llm(n=3, temperature=1.0)
    def many(topic: str) -> list[str]:
        return plait.prompt(plait.user(topic))

    with Engine(backend=FakeBackend(scripted(["a", "b", "c"]))) as engine:
        assert engine.call(many, topic="x") == ["a", "b", "c"]


def test_sampled_calls_get_seeds_of_their_own_and_the_same_every_time() -> None:
    seeds: list[list[int]] = []

    @llm(temperature=1.0)
    def sample(text: str) -> str:
        return f"say {text}"

    @workflow
    def twice(text: str) -> list[str]:
        return [sample(text), sample(text)]

    for _ in range(2):
        seen: list[tuple[str, str, int]] = []

        def note(call: Call, seen: list[tuple[str, str, int]] = seen) -> str:
            seen.append((call.row, call.node, call.seed))
            return "x"

        with Engine(backend=FakeBackend(note)) as engine:
            engine.run(twice, [{"text": "a"}, {"text": "a"}])
        seeds.append([seed for _, _, seed in sorted(seen)])
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 4


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    if a > 100:
        raise ValueError("too large")
    return a + b


def call_text(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@plait.agent(tools=[add], max_turns=3)
def solve(question: str) -> str:
    return f"Solve: {question}"


def test_agent_calls_tools_until_it_answers() -> None:
    seen: list[Call] = []
    answers = iter([call_text("add", a=1, b=2) + call_text("add", a=5, b=5), "It is 13."])

    def answer(call: Call) -> str:
        seen.append(call)
        return next(answers)

    with Engine(backend=FakeBackend(answer)) as engine:
        run = engine.run(solve, [{"question": "?"}])
    assert run.outputs == ["It is 13."]
    assert [t["function"]["name"] for t in seen[0].tools] == ["add"]
    messages = seen[1].prompt
    assert isinstance(messages, list)
    assert [m.role for m in messages if isinstance(m, plait.Message)] == [
        "user", "assistant", "tool", "tool",
    ]  # fmt: skip
    assert prompt_text(seen[1]).splitlines()[-2:] == ["3", "10"]
    assert run.stats.nodes["solve"].calls == 2 and run.stats.nodes["solve/add"].calls == 2


@pytest.mark.parametrize(
    "turn",
    [
        call_text("sub", a=1),
        call_text("add", a="x", b=1),
        call_text("add", a=101, b=1),
        "<tool_call>{not json}</tool_call>",
    ],
)
def test_what_is_wrong_with_a_call_is_shown_to_the_model(turn: str) -> None:
    shown: list[str] = []
    answers = iter([turn, "done"])

    def answer(call: Call) -> str:
        shown.append(prompt_text(call).splitlines()[-1])
        return next(answers)

    with Engine(backend=FakeBackend(answer)) as engine:
        assert engine.call(solve, question="?") == "done"
    assert shown[1].startswith("error: ")


def test_agent_without_an_answer_ends_at_its_bound() -> None:
    backend = FakeBackend(from_function(lambda _: call_text("add", a=1, b=1)))
    with Engine(backend=backend) as engine:
        failure = engine.run(solve, [{"question": "?"}]).rows[0].error
    assert failure is not None and failure.type == "LimitError" and "max_turns=3" in failure.message
