"""Tasks that a model plans: checked, run in parallel, merged like any others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

import plait
from plait import Engine, llm, tool
from plait.dag.emitted import read_tasks
from plait.dag.errors import LimitError, OutputError, WorkflowError
from plait.testing import FakeBackend, from_function, prompt_text, scripted


class Found(BaseModel):
    name: str
    size: int


looked: list[str] = []


@tool(effect="pure")
async def look_up(name: str) -> Found:
    """Find out how large something is."""
    looked.append(name)
    await asyncio.sleep(0)
    return Found(name=name, size=len(name))


@tool
async def compare(a: int, b: int) -> str:
    return "the first" if a > b else "the second"


@llm
def write(about: str, facts: Any = "none") -> str:
    return f"Write about {about}: {facts}"


@plait.plan_and_run(calls=[look_up, compare, write], max_tasks=4, max_tokens=200)
def research(question: str) -> str:
    return question


def task(call: str, **args: Any) -> dict[str, Any]:
    return {"call": call, "args": args}


def plan(*tasks: dict[str, Any], answer: Any = None) -> str:
    return json.dumps({"tasks": list(tasks), **({"answer": answer} if answer else {})})


TWO = (task("look_up", name="bee"), task("look_up", name="ants"))


def answered(said: str, **settings: Any) -> plait.Row:
    backend = FakeBackend(from_function(lambda text: said if text.startswith("Plan ") else text))
    with Engine(backend=backend) as engine:
        return engine.run(research, [{"question": "q"}], **settings).rows[0]


@pytest.mark.parametrize("settings", [{}, {"plan": False}])
def test_tasks_use_the_results_of_others_in_whatever_order(settings: dict[str, Any]) -> None:
    behind = task("compare", a="#2.size", b="#3.size")
    assert answered(plan(behind, *TWO, answer="Larger: #1"), **settings).output == (
        "Larger: the second"
    )
    last = answered(plan(*TWO, task("write", about="#1.name", facts=["#2.name", 3])), **settings)
    assert last.output == "Write about bee: ['ants', 3]"
    fenced = f"Here it is:\n```json\n{plan(*TWO, answer='#2.name and #1')}\n```"
    assert answered(fenced, **settings).output == 'ants and {"name": "bee", "size": 3}'


def test_tasks_that_need_nothing_of_each_other_run_at_the_same_time() -> None:
    """Each waits until the other has begun."""
    begun: set[str] = set()

    @tool
    async def meet(name: str) -> str:
        begun.add(name)
        while len(begun) < 2:
            await asyncio.sleep(0)
        return name

    @plait.plan_and_run(calls=[meet])
    def together(question: str) -> str:
        return question

    said = plan(task("meet", name="a"), task("meet", name="b"), answer="#1#2")
    with Engine(backend=FakeBackend(scripted([said]))) as engine:
        assert engine.call(together, question="q") == "ab"


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("I will look it up.", "OutputError", "the model wrote no plan"),
        ('{"tasks": [{"do": 1}]}', "OutputError", "tasks.0.call"),
        (plan(task("delete")), "OutputError", "calls 'delete'; offered are 'look_up', 'compare'"),
        (plan(task("look_up")), "OutputError", "task 1 calls 'look_up' without 'name'"),
        (plan(task("write", about="a", tone="b")), "OutputError", "an argument 'tone'"),
        (plan(*TWO, answer="#3"), "OutputError", "the answer names task 3, there are 2"),
        (plan(answer="#1"), "OutputError", "the answer names task 1, there are 0"),
        (
            plan(task("look_up", name="#2"), task("look_up", name="#1")),
            "OutputError",
            "task 2 waits for task 1 waits for task 2",
        ),
        (plan(*TWO * 3), "LimitError", "6 tasks, over max_tasks=4"),
        (plan(task("look_up", name=7)), "OutputError", "wants str for 'name'"),
        (plan(*TWO, answer="#1"), "OutputError", "the answer of 'research' is not str"),
    ],
)
def test_a_plan_that_cannot_be_run_is_an_error_of_its_row_alone(
    said: str, kind: str, told: str
) -> None:
    def answer(text: str) -> str:
        return said if text.endswith("bad") else plan(*TWO, answer="#1.name")

    with Engine(backend=FakeBackend(from_function(answer))) as engine:
        run = engine.run(research, [{"question": "good"}, {"question": "bad"}])
    good, bad = run.rows
    assert good.output == "bee" and bad.error is not None
    assert (bad.error.type, bad.error.node) == (kind, "research")
    assert told in bad.error.message


def test_calls_of_planned_tasks_are_merged_counted_and_named() -> None:
    looked.clear()
    said = plan(*TWO, task("look_up", name="bee"), answer="#1.name #2.name #3.name")
    with Engine(backend=FakeBackend(from_function(lambda text: said))) as engine:
        run = engine.run(research, [{"question": f"q{i}"} for i in range(5)])
    assert run.outputs == ["bee ants bee"] * 5 and sorted(looked) == ["ants", "bee"]
    nodes = run.stats.nodes
    assert nodes["research"].calls == 5 and nodes["research"].merged == 0
    counted = [nodes[f"research/look_up{k}"] for k in ("", "_2", "_3")]
    assert [n.calls for n in counted] == [5, 5, 5] and sum(n.merged for n in counted) == 13


def test_what_the_answer_does_not_need_is_run_only_if_it_writes() -> None:
    wrote: list[int] = []

    @tool
    async def note(size: int) -> None:
        wrote.append(size)

    @plait.plan_and_run(calls=[look_up, note])
    def noted(question: str) -> str:
        return question

    looked.clear()
    said = plan(task("note", size="#3.size"), *TWO, task("look_up", name="never"), answer="#2.name")
    with Engine(backend=FakeBackend(scripted([said]))) as engine:
        assert engine.call(noted, question="q") == "bee"
    assert wrote == [4] and sorted(looked) == ["ants", "bee"]


def test_failures_of_tasks_name_them() -> None:
    @tool(effect="pure")
    def broken(name: str) -> str:
        raise ValueError("no such thing")

    @plait.plan_and_run(calls=[broken])
    def flow(question: str) -> str:
        return question

    with Engine(backend=FakeBackend(scripted([plan(task("broken", name="a"))]))) as engine:
        error = engine.run(flow, [{"question": "q"}]).rows[0].error
    assert error is not None and (error.type, error.node) == ("ToolError", "flow/broken")


def test_a_plan_cut_short_says_so() -> None:
    class Cut(FakeBackend):
        async def generate(self, call: Any) -> Any:
            from dataclasses import replace

            return [replace(g, finish_reason="length") for g in await super().generate(call)]

    with Engine(backend=Cut()) as engine:
        error = engine.run(research, [{"question": "q"}]).rows[0].error
    assert error is not None and error.type == "GenerationError"


def test_the_planner_is_told_what_it_may_call_and_how() -> None:
    seen: list[Any] = []

    def answer(call: Any) -> str:
        seen.append(call)
        return plan(*TWO, answer="#1.name")

    @plait.workflow
    def flow(question: str) -> str:
        return write(research(question))

    with Engine(backend=FakeBackend(answer)) as engine:
        engine.call(flow, question="how large?")
        told = str(engine.explain(flow, [{"question": "q"}]))
    text = prompt_text(seen[0])
    assert "- look_up(name: str): Find out how large something is." in text
    assert "At most 4 tasks" in text and text.endswith("how large?")
    assert seen[0].sampling.json_schema["properties"]["tasks"]["maxItems"] == 4
    assert "PlanAndRun research(question=%1)" in told


def test_options_that_cannot_be_are_refused() -> None:
    for options, told in (
        ({"calls": []}, "needs calls"),
        ({"calls": [look_up, look_up]}, "a name of its own"),
        ({"calls": [len]}, "cannot be planned"),
        ({"calls": [look_up], "max_tasks": 0}, "max_tasks=0"),
    ):
        with pytest.raises(WorkflowError, match=told) as caught:
            plait.plan_and_run(**options)
        assert caught.value.problems[0].file == __file__ and caught.value.problems[0].hint


def test_texts_of_a_model_never_raise_anything_else() -> None:
    from hypothesis import given
    from hypothesis import strategies as st

    offered = research.offered
    value = st.sampled_from(["#1", "#2.size", "#9", "a #1 b", "x", 3, None, ["#2"], {"k": "#3"}])
    calls = st.fixed_dictionaries(
        {
            "call": st.sampled_from(["look_up", "compare", "write", "other"]),
            "args": st.dictionaries(st.sampled_from(["name", "a", "b", "about"]), value),
        }
    )

    @given(st.lists(calls, max_size=5), value)
    def check(tasks: list[Any], answer: Any) -> None:
        try:
            found = read_tasks(json.dumps({"tasks": tasks, "answer": answer}), "p", offered, 4)
        except (OutputError, LimitError):
            return
        before: set[str] = set()
        for node in found.nodes.values():
            assert set(node.needs()) <= before
            before.add(node.id)

    check()


def test_its_plan_says_that_more_calls_may_come() -> None:
    with Engine(backend="fake") as engine:
        found = engine.explain(research, [{"question": "q"}])
    assert found.calls() == (1, True)
    assert "at most 4 tasks" in str(found) and "1 LLM call and more as values decide" in str(found)


def test_two_planners_are_never_taken_for_one() -> None:
    """What their tasks may call differs although they are told the same."""

    def named(sign: str) -> Any:
        @tool(effect="pure")
        def look_up(name: str) -> str:
            """Find."""
            return name + sign

        @plait.plan_and_run(calls=[look_up])
        def planner(question: str) -> str:
            return question

        return planner

    one, two = named("?"), named("!")

    @plait.workflow
    def flow(question: str) -> list[str]:
        return [one(question), two(question)]

    said = plan(task("look_up", name="a"), answer="#1")
    with Engine(backend=FakeBackend(from_function(lambda text: said))) as engine:
        run = engine.run(flow, [{"question": "q"}] * 2)
    assert run.outputs == [["a?", "a!"]] * 2
    assert run.stats.merged > 0  # the planner's own call is one
