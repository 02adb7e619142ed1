"""The rehearsal beside the real thing: a batch on a tiny model does what was said it would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plait
from plait import Engine, llm, system, tool, user, workflow
from plait.dag.analyze import compare
from plait.dag.estimates import Estimates, operator_key
from plait.dag.explain import explain, told_cost
from plait.dag.imagined import Imagined
from plait.dag.nodes import LLMCall, ToolCall
from plait.dag.serving import Ask, Done
from plait.dag.template import Template
from plait.dag.workflow import as_workflow
from plait.engine import history
from plait.engine.backends.local import LocalBackend
from plait.engine.corrected import corrected, step_seconds
from plait.engine.llm.costs import Costs
from plait.engine.planning import plan_for
from plait.engine.priced import price_on
from plait.engine.rehearsed_model import RehearsedModel
from plait.engine.rehearsing import imagination_of
from plait.engine.run import Run

from .llm import models

TOKENS = 12
SYSTEM = "You say what is written, and you say it as it was written, word for word. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model=model) as engine:
        yield engine


@llm(max_tokens=TOKENS)
def tell(text: str) -> Any:
    return [system(SYSTEM), user(f"Tell me about {text}.")]


@llm(max_tokens=TOKENS)
def judge(text: str, page: str) -> Any:
    return [system(SYSTEM), user(f"Judge {page} by {text}.")]


@tool(effect="pure")
def page_of(text: str) -> str:
    return f"page {len(text) % 2} " * 20


@workflow
def report(text: str) -> Any:
    return [tell(text), judge(text, page_of(text))]


@llm(max_tokens=TOKENS)
def read(text: str) -> str:
    return f"{text} What is it?"


@llm(max_tokens=TOKENS)
def read_again(text: str, said: str) -> str:
    return f"{text} Is it {said}?"


@workflow
def read_twice(text: str) -> Any:
    return read_again(text, read(text))


ROWS = [{"text": f"{name} {i % 12}"} for i, name in enumerate(["bees", "ants", "a bee"] * 5)]
GRAPH = as_workflow(report)


def learned(engine: Engine, rows: list[dict[str, Any]]) -> tuple[Run, Estimates]:
    run = engine.run(report, rows)
    return run, Estimates(sample=history.observed(GRAPH, run.stats.as_json()))


def backend_of(engine: Engine) -> LocalBackend:
    assert isinstance(engine.backend, LocalBackend)
    return engine.backend


def done_by(engine: Engine) -> tuple[int, int]:
    found = backend_of(engine).llm("default").counters()
    return found.prefill_tokens, found.generated_tokens


@pytest.mark.parametrize("planned", [True, False])
def test_counts_are_those_of_the_run(model: Path, planned: bool) -> None:
    # Not so the steps of a model this small: they are over before the next call is there.
    with Engine(model=model) as teacher:
        _, known = learned(teacher, ROWS)
    with Engine(model=model) as engine:
        cost = price_on(backend_of(engine), GRAPH, ROWS, known, planned=planned).cost
        run = engine.run(report, ROWS, plan=planned)
        prefill, generated = done_by(engine)
    assert cost is not None and cost.rehearsed is not None
    assert cost.decode_tokens == pytest.approx(generated, rel=0.05)
    # Without a plan equal calls race: how many compute what they share hangs on when steps end.
    assert cost.prefill_tokens == pytest.approx(prefill, rel=0.1 if planned else 0.2)
    assert cost.decode_steps >= TOKENS
    for name, node in run.stats.nodes.items():
        assert cost.rehearsed.nodes[name].calls == node.calls
        assert cost.rehearsed.nodes[name].merged == pytest.approx(node.merged, abs=1)


@llm(max_tokens=TOKENS, n=4, temperature=1.0, ignore_eos=True)  # type: ignore[call-overload, untyped-decorator]
def several(text: str) -> list[str]:
    return plait.prompt(system(SYSTEM), user(f"Say something about {text}."))


@llm(max_tokens=TOKENS)
def chosen(text: str) -> str:
    return f"Is this good? {text}"


@workflow
def best_of(text: str) -> Any:
    return plait.map(chosen, several(text))


@pytest.mark.parametrize("planned", [True, False])
def test_the_generations_of_a_call_are_counted_as_in_the_run(model: Path, planned: bool) -> None:
    rows = [{"text": text} for text in ("bees", "ants and bees", "wasps")]
    with Engine(model=model) as engine:
        priced = price_on(backend_of(engine), as_workflow(several), rows, Estimates(),
                          planned=planned)  # fmt: skip
        run = engine.run(several, rows, plan=planned)
        done = done_by(engine)
    cost, ran = priced.cost, run.stats.nodes["several"]
    assert cost is not None and cost.rehearsed is not None
    told = cost.rehearsed.nodes["several"]
    assert (cost.prefill_tokens, cost.decode_tokens) == done
    assert told.generated_tokens == ran.completion_tokens == 4 * TOKENS * len(rows)
    assert told.prompt_tokens == ran.prompt_tokens
    assert told.prefill_tokens == ran.prompt_tokens - ran.cached_tokens
    assert f"decode {told.generated_tokens:,}" in explain(priced.plan, cost)
    entries = compare(priced.plan, cost, run.stats.as_json())
    assert entries[0]["predicted"] == entries[0]["actual"]


def test_each_of_a_call_s_generations_is_judged(engine: Engine) -> None:
    graph, rows = as_workflow(best_of), [{"text": "bees"}, {"text": "ants"}]
    cost = price_on(backend_of(engine), graph, rows, Estimates()).cost
    ran = engine.run(best_of, rows).stats.nodes
    assert cost is not None and cost.rehearsed is not None
    told = cost.rehearsed.nodes
    assert {name: told[name].calls for name in ran} == {n: node.calls for n, node in ran.items()}
    assert told["map_chosen/chosen"].calls == 4 * len(rows)


@tool(effect="pure")
def joined(one: str, two: str) -> str:
    return f"{one} / {two}"


@llm(max_tokens=TOKENS)
def heard(text: str) -> str:
    return f"What of {text}?"


@workflow
def discussion(text: str) -> Any:
    """One tool makes short texts, long ones, and one that is longer than all prompts."""
    first = heard(joined(text, "now"))
    both = joined(first, joined(text, "now and then"))
    last = heard(joined(both, both))
    return joined(joined(last, both), joined(both, both))


def test_prompts_are_as_long_as_what_tools_make_of_their_arguments(engine: Engine) -> None:
    """One operator in many places: not every place gives what the last of them gives."""
    rows = [{"text": f"{name} " * 5} for name in ("bees", "ants", "wasps and bees")]
    graph = as_workflow(discussion)
    run = engine.run(discussion, rows)
    known = Estimates(sample=history.observed(graph, run.stats.as_json()))
    cost = price_on(backend_of(engine), graph, rows, known).cost
    assert cost is not None and cost.rehearsed is not None
    for name, node in run.stats.nodes.items():
        if node.prompt_tokens:
            told = cost.rehearsed.nodes[name].prompt_tokens
            assert told == pytest.approx(node.prompt_tokens, rel=0.15), name


@llm(max_tokens=TOKENS)
def plainly(text: str, found: str) -> str:
    return f"Of {text}: {found}"


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_have_the_tokens_that_the_engine_gives_them(tmp_path: Path, chat: bool) -> None:
    """As far as values are known, and where they are not, those before them."""
    given = {"text": "bees", "found": "hives", "page": "page 1"}
    with Engine(model=models.save_with_tokenizer(tmp_path, chat)) as engine:
        engine.generate("warm up", max_tokens=1)
        llm = backend_of(engine).llm("default")
        texts = imagination_of(llm)
        for operator in (tell, judge, plainly):
            (node,) = (n for n in as_workflow(operator).nodes.values() if isinstance(n, LLMCall))
            assert isinstance(node.prompt, Template)
            prompt = node.prompt.render(given)
            ids = llm.encode([user(prompt)] if isinstance(prompt, str) else prompt)
            assert texts.prompt(node.prompt, {n: texts.given(v) for n, v in given.items()}) == ids
            late = {n: Imagined(7, 5) if n == "found" else texts.given(v) for n, v in given.items()}
            if operator is plainly:
                found = texts.prompt(node.prompt, late)
                head = texts.head(node.prompt, 1, late)
                assert ids[: len(head)] == head == found[: len(head)] and len(head) > 8
                assert len(found) == len(ids)


@llm(max_tokens=TOKENS)
def search(text: str) -> str:
    return f"{text} What to look for?"


@llm(max_tokens=TOKENS)
def judged(text: str, page: str) -> Any:
    return [system(SYSTEM * 4), user(f"By {text} judge {page}.")]


@workflow
def searched(text: str) -> Any:
    return judged(text, page_of(search(text)))


def test_prompts_are_begun_while_tools_work(engine: Engine) -> None:
    """The prefix of all is computed once either way; early it is nobody's who waits for it."""
    (look,) = (n for n in as_workflow(searched).nodes.values() if isinstance(n, ToolCall))
    known = Estimates(given={operator_key(look): 1.0})
    rows = [{"text": f"{name} " * 12} for name in ("bees", "ants", "wasps")]
    early, late = (
        price_on(backend_of(engine), as_workflow(searched), rows, known, disable=off).cost
        for off in ((), ("split_prefill",))
    )
    assert early is not None and early.rehearsed is not None
    assert late is not None and late.rehearsed is not None
    assert early.prefill_tokens == pytest.approx(late.prefill_tokens, rel=0.1)
    whole, begun = late.rehearsed.nodes["judged"], early.rehearsed.nodes["judged"]
    assert begun.prefill_tokens < whole.prefill_tokens - len(SYSTEM * 4)
    assert early.seconds <= late.seconds


def test_a_run_that_learns_knows_how_fast_the_machine_is(engine: Engine) -> None:
    backend = backend_of(engine)
    before = step_seconds(backend, ["default"])
    run = engine.run(report, ROWS)
    taken = step_seconds(backend, ["default"]) - before
    plan, stats = plan_for([(GRAPH, ROWS)]), run.stats.as_json()
    found = corrected(backend, plan, ROWS, stats, taken)
    twice = corrected(backend, plan, ROWS, stats, 2 * max(taken, 0.1))
    assert taken > 0 and twice.disturbed > 0
    if taken >= 0.1:
        assert twice.disturbed == pytest.approx(2 * found.disturbed)
    assert corrected(backend, plan, ROWS, stats, 0.0).disturbed == 1.0


def test_half_of_the_rows_are_rehearsed_and_the_rest_reckoned(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(engine)
    whole = price_on(backend, GRAPH, ROWS, Estimates()).cost
    monkeypatch.setattr("plait.engine.priced.REHEARSED_TOKENS", 100)
    part = price_on(backend, GRAPH, ROWS, Estimates()).cost
    assert whole is not None and part is not None
    assert whole.rehearsed is not None and part.rehearsed is not None
    assert part.rehearsed.rows < whole.rehearsed.rows == len(ROWS)
    assert part.seconds == pytest.approx(whole.seconds, rel=0.5)


def test_a_model_in_virtual_time_takes_the_steps_its_costs_say() -> None:
    costs = Costs(step=1.0, token=0.1, token_context=0.0, decode_row=0.5, kv_token=0.0)
    model = RehearsedModel(costs, pages=64)
    model.add(1, Ask(range(10), [(91, 92, 93)], 3), 0.0)
    assert model.busy
    first, second, third = model.step(0.0), model.step(2.0), model.step(3.5)
    assert first.seconds == pytest.approx(1.0 + 10 * 0.1) and not first.done
    assert second.seconds == pytest.approx(1.5) and third.done[0].computed == 10
    assert not model.busy and model.used.decode_tokens == 3 and model.used.prefill_tokens == 10
    model.add(2, Ask(range(10), [(91,)], 1), 5.0)  # the cache has all but the last token
    assert model.step(5.0).done[0].computed == 1


def test_the_generations_of_a_call_share_its_prompt() -> None:
    costs = Costs(step=1.0, token=0.1, token_context=0.0, decode_row=0.5, kv_token=0.0)
    model = RehearsedModel(costs, pages=64)
    model.add(1, Ask(range(33), [(91, 92), (93, 94, 95, 96), (97,)], 4), 0.0)
    assert model.waiting == 3
    done = [done for _ in range(9) if model.busy for done in model.step(0.0).done]
    assert done == [Done(1, 33)] and not model.busy, "over with the last, counted by the first"
    assert model.used.decode_tokens == 7 and model.used.prefill_tokens == 33 + 2
    model.add(2, Ask(range(33), [(91, 92), (93, 94)], 2), 9.0)
    model.step(9.0)
    assert model.drop(2, 10.0) and not model.busy and not model.drop(2, 10.0)


@pytest.mark.parametrize("host_pages", [0, 64])
def test_what_was_evicted_comes_back_from_the_host_if_there_is_one(host_pages: int) -> None:
    """Two prompts in turn, of which the cache holds one."""
    model = RehearsedModel(Costs(kv_bytes=100), pages=8, host_pages=host_pages)
    computed = []
    for number in range(4):
        start = 1_000 * (number % 2)
        model.add(number, Ask(range(start, start + 96), [(7,)], 1), 0.0)
        computed += [done.computed for done in model.step(0.0).done]
    used = model.used
    assert computed[:2] == [96, 96] and used.evicted_tokens > 0
    if host_pages:
        assert max(computed[2:]) < 32 and used.restored_tokens >= 64 <= used.offloaded_tokens
        assert 0 < used.restore_seconds < 96 * 100 * 4 / 5e9
    else:
        assert min(computed[2:]) > 32 and used.offloaded_tokens == used.restored_tokens == 0


def test_a_beginning_is_computed_when_nothing_else_is_and_found_by_its_prompt() -> None:
    model = RehearsedModel(Costs(token=0.1), pages=64)
    release = model.warm(range(100), 0.0)
    assert model.busy
    while model.busy:
        assert not model.step(0.0).done
    assert model.used.prefill_tokens == 100 and model.used.decode_tokens == 0
    model.add(1, Ask(range(120), [(7,)], 1), 1.0)
    assert model.step(1.0).done[0].computed == 20
    release(2.0)
    assert not model.busy and model.used.prefill_tokens == 120


@pytest.mark.parametrize(("seconds", "kept"), [(9.0, True), (1e6, False)])
def test_a_beginning_is_held_for_as_long_as_it_pays(seconds: float, kept: bool) -> None:
    """As in an engine that knows how long the tool takes that is awaited: one that takes far too
    long for it is not waited for, and what comes meanwhile takes its memory."""
    model = RehearsedModel(Costs(token=0.1), pages=12)
    release = model.warm(range(64), 0.0, [[(seconds, 1.0)]])
    while model.busy:
        model.step(0.0)
    for number in (1, 2):
        model.add(number, Ask(range(number * 1_000, number * 1_000 + 64), [(7,)], 1), number)
        assert model.step(number).done
    model.add(3, Ask(range(80), [(7,)], 1), 3.0)
    assert (model.step(3.0).done[0].computed == 80 - 64) == kept
    release(4.0)


def test_a_beginning_waits_for_calls_and_never_takes_their_memory() -> None:
    model = RehearsedModel(Costs(token=0.1), pages=8)
    model.add(1, Ask(range(100), [range(500, 504)], 4), 0.0)
    release = model.warm(range(1_000, 1_100), 0.0)
    assert model.step(0.0).seconds > 0 and model.used.prefill_tokens == 100
    done = [d.number for _ in range(9) if model.busy for d in model.step(0.0).done]
    assert done == [1] and not model.busy
    model.unload()
    release(1.0)
    assert model.used.failed == 0


def test_an_unloaded_model_has_no_kv_left() -> None:
    model = RehearsedModel(Costs(), pages=64)
    for number, computed in enumerate((64, 1, 64)):
        if number == 2:
            model.unload()
        model.add(number, Ask(range(64), [(7,)], 1), 0.0)
        assert model.step(0.0).done[0].computed == computed


def test_the_host_tier_is_priced_as_it_works(model: Path) -> None:
    """Memory for a few rows' documents, which are read again after all others: counts of a run."""
    rows = [{"text": f"{i:03} " + "page " * 40} for i in range(12)]
    costs = Costs(kv_bytes=1_024)
    with Engine(model=model, kv_memory=300_000, host_memory=4_000_000) as engine:
        llm = backend_of(engine).llm("default")
        llm.costs = costs
        found = price_on(backend_of(engine), as_workflow(read_twice), rows, Estimates()).cost
        engine.run(read_twice, rows)
        counters = llm.counters()
    assert found is not None and found.rehearsed is not None
    assert counters.restored_pages > 0 and found.rehearsed.restored_tokens > 0
    assert found.prefill_tokens == pytest.approx(counters.prefill_tokens, rel=0.2)
    told = told_cost(found)
    assert f"KV on the host: {found.rehearsed.offloaded_tokens:,} tokens offloaded" in told


def test_what_never_fits_fails_and_the_others_go_on() -> None:
    model = RehearsedModel(Costs(), pages=2)
    model.add(1, Ask(range(100), [(1,)], 1), 0.0)
    assert model.step(0.0).done[0].number == 1 and model.used.failed == 1 and not model.busy
    model.add(2, Ask(range(20), [range(30)], 30), 0.0)  # 20 fit, and 12 of its answer
    ended = [done for _ in range(14) if model.busy for done in model.step(0.0).done]
    assert [done.number for done in ended] == [2] and model.used.failed == 2
    model.add(3, Ask(range(20), [range(30), range(30, 60)], 30), 0.0)
    ended = [done for _ in range(99) if model.busy for done in model.step(0.0).done]
    assert [done.number for done in ended] == [3] and model.used.failed == 3, "with both of it"


def test_the_first_call_that_outgrows_the_memory_is_named(model: Path) -> None:
    """The prompt fits, and its answer does not: who asks for it, and how much there is."""
    with Engine(model=model, kv_memory=300_000) as engine:
        reader = backend_of(engine).llm("default")
        frame = len(reader.encode([user("")]))
        text = "x" * (reader.kv_tokens - frame - 3)
        tokens = len(reader.encode([user(text + " What is it?")]))
        text = text[: reader.kv_tokens - 3 - tokens]
        rows = [{"text": "short"}, {"id": "long", "text": text}, {"text": text + "y"}]
        found = price_on(backend_of(engine), as_workflow(read), rows, Estimates()).cost
        run = engine.run(read, rows)
    assert found is not None and found.rehearsed is not None
    one = found.rehearsed.outgrown
    failed = [row.id for row in run if row.error is not None]
    assert one is not None and failed == ["long", 2] and found.rehearsed.failed_calls == 2
    assert (one.node, one.model, one.row) == ("read", "default", "long")
    assert (one.tokens, one.room) == (reader.kv_tokens - 3 + TOKENS, reader.kv_tokens)
    line = next(line for line in told_cost(found).splitlines() if line.startswith("too long: "))
    assert "read, row 'long' (and 1 other call): prompt and answer would have " in line
    assert f"{one.tokens:,} tokens" in line and f"has room for {one.room:,}" in line
    assert json.loads(json.dumps(found.as_dict()))["rehearsed"]["outgrown"]["row"] == "long"


def test_history_is_kept_beside_runs_and_added_up(tmp_path: Path, engine: Engine) -> None:
    run, _ = learned(engine, ROWS[:4])
    runs = tmp_path / "runs"
    runs.mkdir()
    for _ in range(2):
        history.learn(runs / "one", GRAPH, run.stats.as_json(), {"default": "tiny"})
    known = history.estimates(runs, {"default": "tiny"})
    node = next(n for n in GRAPH.nodes.values() if n.id == "tell")
    seen = known.seen(node)
    assert seen is not None and seen[1] == "history" and 0 < seen[0].answers.mean <= TOKENS
    made = run.stats.nodes["tell"].calls - run.stats.nodes["tell"].merged
    assert seen[0].answers.count == 2 * made
    assert history.estimates(runs, {"default": "another"}).seen(node) is None
    history.learn(tmp_path / "alone" / "run", GRAPH, run.stats.as_json(), {})
    assert not (tmp_path / "alone").exists()
    (runs / history.NAME).write_text("{broken")
    assert history.read(runs) == {}


def test_what_was_expected_is_put_beside_what_came(tmp_path: Path, engine: Engine) -> None:
    run, _ = learned(engine, ROWS[:4])
    stats = json.loads(json.dumps(run.stats.as_json()))
    unknown = history.expected(GRAPH, {"expected": {}, "stats": stats})
    assert unknown.history == {} and unknown.sample == {}
    assert history.expected(GRAPH, {"stats": stats}).sample
    history.add(tmp_path, history.observed(GRAPH, stats, {"default": "tiny"}))
    noted = history.to_session(GRAPH, tmp_path, {"default": "tiny"})
    known = history.expected(GRAPH, {"expected": noted, "stats": stats})
    assert len(known.history) == 3
