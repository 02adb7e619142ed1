"""The executor: readiness, branches, maps, loops. No torch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait import Engine, tool, workflow

from .operators import draft, extend, is_short, upper, words


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
