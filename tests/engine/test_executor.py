"""The executor: readiness, branches, maps, loops, agents, live programs, failures. No torch."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

import plait
from plait import Engine, llm, tool, workflow
from plait.dag.logical import Plan
from plait.engine.backends.backend import Call
from plait.engine.loading import load
from plait.engine.planning import INLINE_CHARACTERS, INLINE_ROWS, plan_for
from plait.engine.row import Item, RowIn
from plait.testing import FakeBackend, from_function, prompt_text, scripted


class Facts(BaseModel):
    names: list[str]


@llm
def draft(topic: str) -> str:
    return f"about {topic}"


@llm
def extend(text: str) -> str:
    return text + "."


@llm
def extract(text: str) -> Facts:
    return plait.prompt(plait.system("List names"), plait.user(text))


@tool(effect="pure")
async def upper(word: str) -> str:
    if word == "boom":
        raise ValueError("no boom")
    return word.upper()


@tool(effect="pure")
def words(text: str) -> list[str]:
    return text.split()


@tool(effect="pure")
def is_short(text: str) -> bool:
    return len(text) < 10


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(backend="fake") as engine:
        yield engine


def test_chain_and_usage(engine: Engine) -> None:
    @workflow
    def chain(topic: str) -> str:
        return extend(draft(topic))

    run = engine.run(chain, [{"topic": "bees"}, {"topic": "ants", "id": "a"}])
    assert [(r.id, r.status, r.output) for r in run] == [
        (0, "ok", "about bees."),
        ("a", "ok", "about ants."),
    ]
    assert run.rows[0].usage.prompt_tokens == 4
    assert run.stats.nodes["draft"].calls == run.stats.nodes["extend"].calls == 2


def test_a_row_without_a_usable_id_goes_by_its_position(engine: Engine) -> None:
    ids: list[Any] = ["a", "", None, True, 7]
    run = engine.run(draft, [{"topic": "x", "id": id} for id in ids])
    assert [row.id for row in run] == ["a", 1, 2, 3, 7]


def test_output_may_hold_values_anywhere(engine: Engine) -> None:
    @workflow
    def nested(topic: str) -> dict[str, Any]:
        text = draft(topic)
        return {"text": text, "all": [text, (topic, 3)], "fixed": None}

    assert engine.call(nested, topic="x") == {
        "text": "about x",
        "all": ["about x", ("x", 3)],
        "fixed": None,
    }


def test_map_keeps_order_and_passes_shared_values(engine: Engine) -> None:
    @tool(effect="pure")
    async def pair(word: str, mark: str) -> str:
        await asyncio.sleep(0.01 if word == "a" else 0)
        return word + mark

    @workflow
    def mapped(text: str, mark: str = "!") -> list[str]:
        return plait.map(pair, words(text), mark=mark)

    assert engine.call(mapped, text="a b c") == ["a!", "b!", "c!"]
    assert engine.call(mapped, text="", mark="?") == []


def test_map_over_a_workflow_and_inside_a_map(engine: Engine) -> None:
    @workflow
    def inner(text: str) -> list[str]:
        return plait.map(upper, words(text))

    @workflow
    def outer(texts: list[str]) -> list[list[str]]:
        return plait.map(inner, texts)

    assert engine.call(outer, texts=["a b", "c"]) == [["A", "B"], ["C"]]
    assert "map_inner/map_upper/upper" in engine.run(outer, [{"texts": ["a"]}]).stats.nodes


def test_map_wider_than_its_bound_fails_the_row(engine: Engine) -> None:
    @workflow
    def mapped(text: str) -> list[str]:
        return plait.map(upper, words(text), max_width=2)

    run = engine.run(mapped, [{"text": "a b"}, {"text": "a b c"}])
    assert run.rows[0].output == ["A", "B"]
    failure = run.rows[1].error
    assert failure is not None and failure.type == "LimitError" and failure.node == "map_upper"


def test_only_the_taken_side_of_a_branch_runs(engine: Engine) -> None:
    @workflow
    def choose(text: str) -> str:
        kept = draft(text)
        return plait.when(is_short(kept), kept, lambda: extend(extend(kept)))

    run = engine.run(choose, [{"text": "x"}, {"text": "longer text"}])
    assert run.outputs == ["about x", "about longer text.."]
    assert (run.stats.nodes["extend"].calls, run.stats.nodes["extend_2"].calls) == (1, 1)


def test_a_node_used_inside_and_outside_a_branch_runs_once(engine: Engine) -> None:
    @workflow
    def shared(text: str) -> list[str]:
        common = draft(text)
        return [common, plait.when(is_short(text), extend(common), common)]

    run = engine.run(shared, [{"text": "x"}, {"text": "much longer text"}])
    assert run.outputs == [
        ["about x", "about x."],
        ["about much longer text", "about much longer text"],
    ]
    assert run.stats.nodes["draft"].calls == 2 and run.stats.nodes["extend"].calls == 1


def test_nested_branches(engine: Engine) -> None:
    @workflow
    def nested(a: bool, b: bool) -> str:
        inner = plait.when(b, lambda: draft("ab"), lambda: draft("a"))
        return plait.when(a, inner, "none")

    rows = [{"a": a, "b": b} for a in (True, False) for b in (True, False)]
    run = engine.run(nested, rows)
    assert run.outputs == ["about ab", "about a", "none", "none"]
    assert sum(n.calls for n in run.stats.nodes.values()) == 2


def test_loop_until_and_bound(engine: Engine) -> None:
    @tool(effect="pure")
    def long_enough(text: str) -> bool:
        return len(text) >= 4

    @workflow
    def grow(text: str) -> str:
        return plait.loop(extend, text, until=long_enough, max_iters=5)

    @workflow
    def fixed(text: str) -> str:
        return plait.loop(extend, text, max_iters=3)

    assert engine.call(grow, text="x") == "x..."
    assert engine.call(fixed, text="x") == "x..."
    assert engine.run(grow, [{"text": ""}]).rows[0].output == "...."


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


def test_tasks_start_when_their_own_inputs_are_ready(engine: Engine) -> None:
    """No barriers: the short branch of a row ends while the long one's first node still runs."""
    order: list[str] = []
    gate = asyncio.Event()

    @tool(effect="pure")
    async def wait(text: str) -> str:
        await gate.wait()
        order.append("long")
        return text

    @tool(effect="pure")
    async def quick(text: str) -> str:
        order.append("quick")
        return text + "!"

    @tool(effect="pure")
    async def last(text: str) -> str:
        order.append("last")
        gate.set()
        return text

    @workflow
    def uneven(text: str) -> list[str]:
        return [wait(text), last(quick(quick(text)))]

    assert engine.call(uneven, text="x") == ["x", "x!!"]
    assert order == ["quick", "quick", "last", "long"]


def test_rows_are_read_only_as_there_is_room() -> None:
    taken = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for i in range(1_000):
            taken += 1
            yield {"topic": str(i)}

    with Engine(backend="fake", max_rows=4) as engine, engine.stream(draft, rows()) as stream:
        next(stream)
        assert taken <= 6
        stream.stop()
        rest = list(stream)
    assert len(rest) + 1 <= 8 and stream.stats.rows_done == len(rest) + 1


def test_write_tools_run_even_when_nothing_uses_their_result(engine: Engine) -> None:
    sent: list[str] = []

    @tool
    async def send(text: str) -> None:
        sent.append(text)

    @workflow
    def notify(topic: str) -> str:
        text = draft(topic)
        send(text)
        return text

    assert engine.call(notify, topic="x") == "about x" and sent == ["about x"]


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


# -- agents ------------------------------------------------------------------------------------


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


# -- live programs -----------------------------------------------------------------------------


def test_live_program_awaits_operators_and_records_them(engine: Engine) -> None:
    @workflow
    def inner(topic: str) -> str:
        return extend(draft(topic))

    @workflow
    async def live(topic: str, times: int = 2) -> list[str]:
        texts = []
        for _ in range(times):
            texts.append(await draft.acall(topic))
        if len(texts) > 1:
            texts.append(await inner.acall(topic))
        return await plait.gather(*(upper.acall(t) for t in texts))

    run = engine.run(live, [{"topic": "x"}, {"topic": "y", "times": 1}])
    assert run.outputs == [["ABOUT X", "ABOUT X", "ABOUT X."], ["ABOUT Y"]]
    assert run.stats.nodes["draft"].calls == 3
    assert run.stats.nodes["inner/extend"].calls == 1 and run.stats.nodes["upper"].calls == 4


def test_live_program_that_raises_fails_its_row(engine: Engine) -> None:
    @workflow
    async def live(topic: str) -> str:
        if topic == "bad":
            raise KeyError("oops")
        return await draft.acall(topic)

    run = engine.run(live, [{"topic": "bad"}, {"topic": "good"}])
    failure = run.rows[0].error
    assert failure is not None and failure.type == "ToolError" and "KeyError" in failure.message
    assert run.rows[1].output == "about good"


def test_operators_outside_a_live_program_say_what_to_do() -> None:
    with pytest.raises(plait.WorkflowError, match=r"engine\.call\(draft"):
        asyncio.run(draft.acall("x"))


# -- engine ------------------------------------------------------------------------------------


async def test_async_twins_work_on_the_callers_loop() -> None:
    async with Engine(backend="fake") as engine:
        run = await engine.arun(draft, [{"topic": "x"}])
        assert run.outputs == ["about x"]
        assert await engine.acall(draft, topic="y") == "about y"
        assert [r.output async for r in engine.astream(draft, [{"topic": "z"}])] == ["about z"]
        assert [g.text for g in await engine.agenerate(["a", "b"])] == ["a", "b"]
        assert "draft" in str(await engine.aexplain(draft, [{"topic": "x"}]))


LONG = "a" * INLINE_CHARACTERS


@pytest.mark.parametrize(
    ("rows", "inline"),
    [
        ([{"topic": "x"}] * 3, True),
        ([{"topic": "x"}] * (INLINE_ROWS + 1), False),
        ([{"topic": LONG}], False),
        ([{"topic": LONG[:9_000]}] * 300, False),
        ([{"topic": "x", "pages": [{"text": LONG}]}], False),
        ([{"topic": "x", "numbers": list(range(30_000))}], False),
        ([Item("a", 0, {"topic": LONG})], False),
        ([Item("a", 0, {"topic": "x"}), plait.InputError("no row"), {"topic": None}], True),
    ],
)
async def test_planning_leaves_the_callers_loop_free(
    monkeypatch: pytest.MonkeyPatch, rows: list[RowIn], inline: bool
) -> None:
    """However few the rows are: texts may be long."""
    threads: list[threading.Thread] = []

    def planning(*given: Any) -> Plan:
        threads.append(threading.current_thread())
        return plan_for(*given)

    monkeypatch.setattr("plait.engine.planning.plan_for", planning)
    async with Engine(backend="fake") as engine:
        await engine.aexplain(draft, rows)
        await engine.arun_together([(draft, rows), (extract, [{"text": "y"}])])
        await engine.arun(draft, rows)
        await engine.arun(draft, rows, plan=False)
    here = [thread is threading.current_thread() for thread in threads]
    assert here == [inline] * 4


async def test_the_sync_interface_works_while_a_loop_runs(engine: Engine) -> None:
    """As in a notebook."""
    assert engine.call(draft, topic="x") == "about x"


def test_generate(engine: Engine) -> None:
    assert [g.text for g in engine.generate(["a", "b"])] == ["a", "b"]
    assert engine.generate("one")[0].text == "one"
    with pytest.raises(plait.ConfigError, match="top_p"):
        engine.generate("x", top_p=3.0)
    with pytest.raises(plait.ConfigError, match="temprature"):
        engine.generate("x", temprature=3.0)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(plait.ConfigError, match="max_rows=0"):
        Engine(backend="fake", max_rows=0)
    with pytest.raises(plait.ConfigError, match="'vllm'"):
        Engine(backend="vllm")
    with pytest.raises(plait.ModelError, match="no model at '/no/such'"):
        Engine(model="/no/such")
    with (
        Engine(backend="fake") as engine,
        pytest.raises(plait.WorkflowError, match="not a workflow"),
    ):
        engine.run(len, [])


def test_a_closed_engine_says_so() -> None:
    engine = Engine(backend="fake")
    engine.close()
    engine.close()
    with pytest.raises(plait.EngineError, match="closed"):
        engine.call(draft, topic="x")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_dags_compute_what_python_computes(data: st.DataObject) -> None:
    """Executing a traced DAG of pure tools gives what calling the functions gives."""

    @tool(effect="pure")
    async def mix(a: int, b: int) -> int:
        return (a * 31 + b * 17 + 1) % 1009

    size = data.draw(st.integers(1, 12))
    edges = [
        (data.draw(st.integers(0, i)), data.draw(st.integers(0, i)), data.draw(st.booleans()))
        for i in range(size)
    ]

    @workflow
    def random_dag(x: int) -> list[Any]:
        values: list[Any] = [x]
        for a, b, branch in edges:
            made = mix(values[a], values[b])
            values.append(plait.when(made, made, values[a]) if branch else made)
        return values[-3:]

    expected = [5]
    for a, b, branch in edges:
        made = (expected[a] * 31 + expected[b] * 17 + 1) % 1009
        expected.append((made or expected[a]) if branch else made)
    with Engine(backend="fake") as engine:
        assert engine.call(random_dag, x=5) == expected[-3:]


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
