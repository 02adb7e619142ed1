"""A price from a rehearsal of some rows is that of all rows, and little of it is rehearsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest

from plait import Engine, llm, tool, workflow
from plait.dag.cost import Cost
from plait.dag.estimates import Estimates, operator_key
from plait.dag.explain import told_cost
from plait.dag.logical import Plan
from plait.dag.messages import user
from plait.dag.workflow import as_workflow
from plait.engine import priced
from plait.engine.backends.local import LocalBackend
from plait.engine.planning import kv_tokens
from plait.engine.priced import Priced, price, price_on
from plait.engine.rehearsing import rehearse_on

from .llm import models


@llm(max_tokens=6)
def sum_up(document: str) -> str:
    return f"Sum up: {document}"


@llm(max_tokens=6)
def answer(question: str) -> str:
    return f"Answer in few words: {question}"


@llm(max_tokens=6)
def ask(document: str, question: str) -> str:
    return f"Read {document} and say: {question}"


@workflow
def asking(document: str, question: str) -> Any:
    return ask(document, question)


@tool(effect="pure")
def look(question: str) -> str:
    return question


@workflow
def reading(document: str, question: str) -> Any:
    return [sum_up(document), answer(question)]


@workflow
def looking(document: str, question: str) -> Any:
    return [sum_up(document), answer(look(question))]


@workflow
def only_tools(document: str, question: str) -> Any:
    return [look(document), look(question)]


ROWS = [{"document": f"document {i % 4} " * 8, "question": f"{i:03} what?"} for i in range(96)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))
    with Engine(model=path, kv_memory="8MiB") as engine:
        engine.generate("warm up", max_tokens=1)
        yield engine


def cost(engine: Engine, of: Any, known: Estimates | None = None, **options: Any) -> Cost:
    assert isinstance(engine.backend, LocalBackend)
    found = price_on(engine.backend, as_workflow(of), ROWS, known or Estimates(), **options).cost
    assert found is not None and found.rehearsed is not None
    return found


def given(of: Any, **seconds: float) -> Estimates:
    nodes = as_workflow(of).nodes
    return Estimates(given={operator_key(nodes[id]): value for id, value in seconds.items()})


def same_counts(part: Cost, whole: Cost, rel: float = 0.1) -> None:
    assert part.rehearsed is not None and whole.rehearsed is not None
    assert part.rehearsed.rows < whole.rehearsed.rows / 3
    for name, node in whole.rehearsed.nodes.items():
        found = part.rehearsed.nodes[name]
        assert found.calls == pytest.approx(node.calls, abs=3), name
        assert found.calls - found.merged == pytest.approx(node.calls - node.merged, abs=3), name
        for count in ("prompt_tokens", "generated_tokens"):
            assert getattr(found, count) == pytest.approx(getattr(node, count), rel=rel), name
        # Of a prompt that is nearly always cached little is computed: a few tokens are many of it.
        few = 0.02 * node.prompt_tokens
        assert found.prefill_tokens == pytest.approx(node.prefill_tokens, rel=rel, abs=few), name
    for count in ("prefill_tokens", "decode_tokens"):
        assert getattr(part, count) == pytest.approx(getattr(whole, count), rel=rel)


@pytest.mark.parametrize(
    "options",
    [{}, {"planned": False}, {"disable": ["merge_calls"]}, {"disable": ["share_prefixes"]}],
    ids=str,
)
def test_calls_that_repeat_are_not_more_for_more_rows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, options: Mapping[str, Any]
) -> None:
    whole = cost(engine, reading, **options)
    monkeypatch.setattr(priced, "REHEARSED_TOKENS", whole.decode_tokens / 4)
    # Equal prompts that are computed side by side are computed twice, more so in a larger batch.
    rel = 0.1 if options.get("planned", True) else 0.25
    same_counts(cost(engine, reading, **options), whole, rel)


def test_counts_grow_with_rows_where_seconds_do_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = given(looking, look=10.0)
    whole = cost(engine, looking, known)
    monkeypatch.setattr(priced, "REHEARSED_TOKENS", whole.decode_tokens / 4)
    part = cost(engine, looking, known)
    assert part.bound == whole.bound == "critical path"
    assert part.seconds == pytest.approx(whole.seconds, rel=0.2)
    assert part.prefill_seconds == pytest.approx(whole.prefill_seconds, rel=0.1)
    same_counts(part, whole)


def test_long_prompts_and_many_calls_are_rehearsed_in_part(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cost(engine, reading)
    assert whole.rehearsed is not None and whole.rehearsed.rows == len(ROWS)
    monkeypatch.setattr(priced, "REHEARSED_PROMPTS", 1_200)
    same_counts(cost(engine, reading), whole)


def test_a_workflow_without_models_is_rehearsed_in_part(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = given(only_tools, look=1.0)
    whole = cost(engine, only_tools, known, window=4)
    monkeypatch.setattr(priced, "REHEARSED_CALLS", 48)
    part = cost(engine, only_tools, known, window=4)
    same_counts(part, whole)
    assert part.seconds == pytest.approx(whole.seconds, rel=0.1)


@llm(model="small", max_tokens=6)
def sketch(question: str) -> str:
    return f"{question} Sketch it."


@llm(model="big", max_tokens=12)
def refine(document: str, text: str) -> str:
    return f"Refine {document}: {text}"


@workflow
def pair(document: str, question: str) -> Any:
    return refine(document, sketch(question))


def test_a_price_for_several_devices_is_that_of_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Calls and tokens are those of a run on them, and it takes less than on one."""
    place = tmp_path_factory.mktemp("two")
    paths = {a: str(models.save_with_tokenizer(place / a)) for a in ("small", "big")}
    rows, work = ROWS[:32], as_workflow(pair)
    one = price(work, rows, paths, kv_memory="2MB", devices=["cpu"]).cost
    apart = price(work, rows, paths, kv_memory="2MB", devices=["cpu", "cpu:0"])
    both = price(work, rows, paths, kv_memory="2MB", devices=["cpu", "cpu"]).cost
    with Engine(models=paths, kv_memory="2MB", devices=["cpu", "cpu"]) as engine:
        run = engine.run(pair, rows)
        counted = engine.backend.counters().values()  # type: ignore[attr-defined]
        generated = sum(c.generated_tokens for c in counted)
        prefill = sum(c.prefill_tokens for c in counted)
    assert one is not None and both is not None and apart.cost is not None
    assert apart.plan.placement is not None and apart.cost.workers == both.workers == 2
    assert run.plan.placement is not None  # of these two devices, which are one, as of two
    stages = [stage.models for stage in run.plan.placement.stages]
    assert stages == [stage.models for stage in apart.plan.placement.stages]
    for cost in (both, apart.cost):
        assert cost.decode_tokens == pytest.approx(generated, rel=0.15)
        assert cost.prefill_tokens == pytest.approx(prefill, rel=0.25)
        assert "workers: 2, the busiest computes" in told_cost(cost)
        assert cost.rehearsed is not None
        for name, node in run.stats.nodes.items():
            assert cost.rehearsed.nodes[name].calls == node.calls
    work_of_both = both.seconds - both.load_seconds
    assert apart.cost.seconds - apart.cost.load_seconds < work_of_both
    assert work_of_both == pytest.approx(one.seconds, rel=0.3)  # one thread does it all


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that are rehearsed."""
    plans: list[Plan] = []

    def noted(backend: LocalBackend, plan: Plan, *args: Any, **more: Any) -> Any:
        plans.append(plan)
        return rehearse_on(backend, plan, *args, **more)

    monkeypatch.setattr("plait.engine.priced.rehearse_on", noted)
    return plans


def test_a_price_is_for_the_order_the_run_takes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, rehearsed: list[Plan]
) -> None:
    assert isinstance(engine.backend, LocalBackend)
    rows, memory = ROWS[:40], kv_tokens(engine.backend)
    found = price_on(engine.backend, as_workflow(asking), rows, Estimates())
    monkeypatch.setattr(priced, "REHEARSED_TOKENS", 60)
    price_on(engine.backend, as_workflow(asking), rows, Estimates())
    told, run = engine.explain(asking, rows), engine.run(asking, rows).plan
    assert memory and {found.plan.memory, told.memory, run.memory} == {memory}
    assert [plan.memory for plan in rehearsed] == [memory, memory]
    assert rehearsed[0].parts[0].order == told.parts[0].order == run.parts[0].order


def test_a_run_without_a_prefix_tree_is_rehearsed_in_its_order(
    engine: Engine, rehearsed: list[Plan]
) -> None:
    cost(engine, asking)
    cost(engine, asking, disable=["share_prefixes"])
    planned, unplanned = rehearsed
    assert planned.parts[0].order is not None and unplanned.parts[0].order is None


def test_a_row_that_the_model_refuses_does_not_keep_the_others_from_a_price(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(models.save_with_tokenizer(tmp_path_factory.mktemp("one")))
    rows: list[Any] = [{"question": "a"}, {"question": "\ud800b"}, None]
    found = price(as_workflow(sketch), rows, {"small": path})
    assert found.cost is not None and found.cost.decode_tokens > 0
    for size, refused in ((20_000, 0), (100_000, 1)):  # for what is in it, or for its characters
        long = [{"question": "\ud800" + "b" * size}]
        found = price(as_workflow(sketch), long, {"small": path}, kv_memory="300KB")
        assert len(found.oversized) == refused


@pytest.fixture
def bytes_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(models.save_with_tokenizer(tmp_path_factory.mktemp("long")))


def test_rows_that_are_too_long_are_left_out_of_the_plan_and_its_price(bytes_model: str) -> None:
    rows: list[Any] = [{"question": "a"}, {"question": "b" * 5_000}, {"question": "c"}]
    more: list[Any] = [{"question": f"{'d' * n}"} for n in (4_500, 3, 4_000)]

    def priced_for(given: list[Any]) -> Priced:
        return price(as_workflow(sketch), given, {"small": bytes_model}, kv_memory="300KB")

    found, short = priced_for([*rows, *more]), priced_for([rows[0], rows[2], more[1]])
    (one,) = found.oversized
    assert (one.node, one.row, one.rows) == ("sketch", 1, 3) and one.tokens > 5_000 > one.room
    assert found.left_out == 3 and short.left_out == 0 and not short.oversized
    assert found.plan.as_dict() == short.plan.as_dict() and found.plan.calls() == (3, False)
    assert found.cost is not None and found.cost.rehearsed is not None and short.cost is not None
    assert found.cost.rehearsed.nodes["sketch"].calls == 3
    for name, value in short.cost.as_dict().items():
        if isinstance(value, int | float):
            assert getattr(found.cost, name) == pytest.approx(value, rel=0.01), name
    nothing = priced_for([rows[1]])
    assert nothing.cost is None and nothing.left_out == 1 and nothing.plan.calls() == (0, False)


def test_a_row_keeps_its_name_where_others_are_left_out(bytes_model: str) -> None:
    """The row with the first call whose prompt fits and whose answer does not."""
    memory = "100KB"
    with closing(LocalBackend({"small": bytes_model}, kv_memory=memory)) as backend:
        reader = backend.llm("small")
        assert reader.kv_tokens < reader.max_context
        frame = len(reader.encode([user(" Sketch it.")]))
    fits = {"question": "c" * (reader.kv_tokens - frame - 2)}
    others: list[Any] = [{"question": "b" * 5_000}, {"question": "a"}]
    for row, name in ((fits, 2), (fits | {"id": 0}, 0), (fits | {"id": "last"}, "last")):
        given = [*others, row]
        one = price(as_workflow(sketch), given, {"small": bytes_model}, kv_memory=memory)
        assert one.left_out == 1 and one.cost is not None and one.cost.rehearsed is not None
        assert one.cost.rehearsed.outgrown is not None
        assert one.cost.rehearsed.outgrown.row == name


def test_a_run_is_planned_by_the_tokens_of_its_model_as_a_price_is(engine: Engine) -> None:
    assert isinstance(engine.backend, LocalBackend)
    plan = engine.explain(asking, ROWS)
    price = price_on(engine.backend, as_workflow(asking), ROWS, Estimates()).plan
    assert plan.measure is not None and price.measure is not None
    assert plan.measure("x" * 100) == price.measure("x" * 100) != 25
    assert plan.parts[0].order == price.parts[0].order
