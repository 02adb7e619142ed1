"""The trace file: tasks on lanes, counters over time, and a size that does not grow."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait
from plait.engine.row import RowState
from plait.engine.run import Span, Stats
from plait.engine.trace import ID_CHARS, LOAD, lanes, trace_json
from plait.engine.watch import Loading, Sample, Watch, alias_and_worker

quick = settings(max_examples=50, deadline=None)


@plait.llm
def ask(topic: str) -> str:
    return f"About {topic}"


@plait.llm(model="big")
def review(text: str) -> str:
    return f"Review {text}"


@plait.tool(effect="pure")
def look(text: str) -> str:
    return text


@plait.workflow
def two_models(topic: str) -> list[str]:
    return plait.map(review, [look(ask(topic))])


def events_of(
    stats: Stats, samples: list[Sample] | None = None, devices: tuple[str, ...] = (),
    engines: dict[str, str] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    given = json.loads(
        trace_json(stats, two_models.workflow, samples or [], devices, engines or {})
    )
    assert set(given) == {"traceEvents", "displayTimeUnit", "otherData"}
    events: list[dict[str, Any]] = given["traceEvents"]
    return events


@quick
@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 3)), max_size=40))
def test_tasks_on_one_lane_do_not_overlap(times: list[tuple[float, float]]) -> None:
    spans = [Span("n", "LLMCall", i, s, s + d, True) for i, (s, d) in enumerate(times)]
    busy: dict[int, float] = {}
    most = 0
    for span, lane in lanes(spans):
        assert busy.get(lane, 0.0) <= span.start
        busy[lane] = span.end
        most = max(most, lane + 1)
    at_once = [sum(s.start <= t.start < s.end or s is t for s in spans) for t in spans]
    assert most == len(busy) <= max(at_once, default=0), "more lanes than tasks at once"


def test_every_model_is_a_process_with_its_requests_and_counters_and_tools_are_another() -> None:
    stats = Stats()
    stats.spans += [
        Span("ask", "LLMCall", "a", 0.0, 0.5, True, "default"),
        Span("ask", "LLMCall", "b", 0.2, 0.6, False, "default"),
        Span("look", "ToolCall", "a", 0.5, 0.7, True),
        Span("map_review/review", "LLMCall", "a", 0.7, 0.8, True, "big"),
    ]  # fmt: skip
    now = stats.started
    samples = [
        Sample(now - 1, "big", 9, 9, 9, 9, 9), Sample(now + 0.25, "default", 2, 1, 5, 4, 3),
    ]  # fmt: skip
    events = events_of(stats, samples)
    pids = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    assert list(pids) == ["model default", "model big", "tools"]
    spans = [(e["pid"], e["tid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [
        (1, 1, 0, 500_000), (1, 2, 200_000, 400_000), (2, 1, 700_000, 100_000),
        (3, 1, 500_000, 200_000),
    ]  # fmt: skip
    threads = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert threads == {(pid, tid) for pid, tid, _, _ in spans}, "every lane has its name"
    counted = {e["name"]: e for e in events if e["ph"] == "C"}
    assert {e["pid"] for e in counted.values()} == {1}, "what was before the run is left out"
    assert counted["KV pages"]["args"] == {"held": 5, "cached": 4, "free": 3}
    assert counted["requests"]["args"] == {"running": 2, "waiting": 1}
    assert round(counted["requests"]["ts"] / 1e6, 6) == 0.25


def test_every_call_is_on_the_worker_that_did_it() -> None:
    stats = Stats()
    stats.spans += [
        Span("look", "ToolCall", "a", 0.0, 0.1, True),
        Span("map_review/review", "LLMCall", "a", 0.1, 0.2, True, "big", 1),
        Span("ask", "LLMCall", "b", 0.1, 0.3, True, "default", 1),
        Span("ask", "LLMCall", "c", 0.1, 0.3, True, "default", 0),
        Span("ask", "LLMCall", "d", 0.2, 0.3, True, "default", 1),
    ]  # fmt: skip
    samples = [Sample(stats.started, f"default on {w}", w, 0, 5 + w, 0, 3) for w in (0, 1, 2)]
    events = events_of(stats, samples, ("cuda:0", "cuda:1"))
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(names.values()) == [
        "worker 0 (cuda:0): model default", "worker 1 (cuda:1): model default",
        "worker 1 (cuda:1): model big", "worker 2: model default", "tools",
    ]  # fmt: skip
    assert [(names[e["pid"]], e["args"]["row"]) for e in events if e["ph"] == "X"] == [
        ("worker 0 (cuda:0): model default", "c"), ("worker 1 (cuda:1): model default", "b"),
        ("worker 1 (cuda:1): model default", "d"), ("worker 1 (cuda:1): model big", "a"),
        ("tools", "a"),
    ]  # fmt: skip
    held = {names[e["pid"]]: e["args"]["held"] for e in events if e["name"] == "KV pages"}
    assert list(held.values()) == [5, 6, 7] and all(" model default" in name for name in held)


def test_calls_of_models_that_share_an_engine_are_in_its_process() -> None:
    stats = Stats()
    stats.spans += [
        Span("ask", "LLMCall", "a", 0.0, 0.1, True, "default"),
        Span("review", "LLMCall", "a", 0.1, 0.2, True, "big"),
    ]  # fmt: skip
    events = events_of(stats, engines={"default": "default", "big": "default"})
    assert [e["args"]["name"] for e in events if e["name"] == "process_name"] == [
        "model default, big"
    ]  # fmt: skip
    assert {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"} == {(1, 1)}


def test_a_trace_is_made_of_events_that_viewers_take() -> None:
    stats = Stats()
    stats.spans += [Span("ask", "LLMCall", i, i / 9, i / 5, True, "default") for i in range(9)]
    events = events_of(stats, [Sample(stats.started, "default", 1, 0, 1, 1, 1)])
    for event in events:
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert event["ph"] in "XCM" and isinstance(event["args"], dict)
        if event["ph"] == "X":
            assert isinstance(event["ts"], int) and event["ts"] >= 0 and event["dur"] >= 1
    by_lane: dict[int, int] = {}
    for event in (e for e in events if e["ph"] == "X"):
        assert by_lane.get(event["tid"], 0) <= event["ts"], "spans of a thread do not overlap"
        by_lane[event["tid"]] = event["ts"] + event["dur"]


def test_a_long_id_is_cut_and_a_call_of_a_live_program_is_on_its_model() -> None:
    stats = Stats()
    stats.spans.append(Span("of no node", "LLMCall", "x" * 10_000_000, 0, 1, True, "big"))
    text = trace_json(stats, two_models.workflow)
    assert len(text) < 2_000 and "x" * ID_CHARS in text
    assert "model big" in text


@dataclass(frozen=True)
class Counted:
    """Counters of an engine, as far as a watch reads them."""

    steps: int = 0
    step_seconds: float = 0.0
    model_seconds: float = 0.0
    computed_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    evicted_tokens: int = 0
    preemptions: int = 0
    running: int = 0
    waiting: int = 0
    free_pages: int = 0
    cached_pages: int = 0
    held_pages: int = 0


@quick
@given(st.integers(0, 3_000), st.integers(1, 3), st.floats(0.01, 0.5))
def test_however_long_a_run_takes_its_samples_are_few_and_spread_over_all_of_it(
    looks: int, models: int, apart: float
) -> None:
    watch = Watch(interval=0.1, most=60)
    for i in range(looks):
        watch.look(i * apart, {f"m{k}": Counted(running=i) for k in range(models)})
    assert len(watch.samples) <= 60
    for k in range(models):
        times = [s.at for s in watch.samples if s.model == f"m{k}"]
        assert times == sorted(set(times))
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        assert all(gap >= 0.09 - 1e-9 for gap in gaps)
        if looks:
            assert times[0] == 0.0
            assert (looks - 1) * apart - times[-1] <= 2 * watch.interval + apart


def test_the_most_pages_held_are_kept_also_where_no_sample_is() -> None:
    watch = Watch(interval=10.0)
    for now, held in enumerate((2, 7, 3)):
        watch.look(now, {"a": Counted(held_pages=held, cached_pages=1, free_pages=9 - held)})
    assert len(watch.samples) == 1 and watch.pages() == {"a": {"held": 7, "all": 10}}


def test_work_is_counted_from_the_start_of_the_run_and_over_reloads() -> None:
    old, other = Counted(steps=10, step_seconds=1.0), Counted(steps=5, step_seconds=0.5)
    watch = Watch({"a": old})
    watch.look(0.0, {"a": old})
    watch.look(0.01, {"a": replace(old, steps=14, step_seconds=1.5), "b": other})
    watch.look(0.02, {"a": replace(old, steps=3, step_seconds=0.25)})  # loaded anew
    work = watch.work()
    assert (work["a"]["steps"], work["a"]["step_seconds"]) == (7, 0.75)
    assert (work["b"]["steps"], work["b"]["step_seconds"]) == (5, 0.5)


def test_work_of_one_model_on_several_workers_is_its_work() -> None:
    watch = Watch()
    both = {"a on 0": Counted(steps=3, step_seconds=0.5), "a on 1": Counted(steps=4)}
    watch.look(0.0, {**both, "b on 1": Counted(steps=5)})
    work = watch.work_by_alias()
    assert {alias: done["steps"] for alias, done in work.items()} == {"a": 7, "b": 5}
    assert work["a"]["step_seconds"] == 0.5


def test_an_alias_may_look_as_if_it_said_where_it_is() -> None:
    watch = Watch()
    watch.look(0.0, {f"big on a100 on {w}": Counted(steps=3) for w in (0, 1)})
    watch.look(0.0, {"small on cpu": Counted(steps=1)})
    steps = {alias: done["steps"] for alias, done in watch.work_by_alias().items()}
    assert steps == {"big on a100": 6, "small on cpu": 1}
    told = [alias_and_worker(m) for m in ("a", "a on b", "a on 1", "a on b on 12", "a on ")]
    assert told == [("a", None), ("a on b", None), ("a", 1), ("a on b", 12), ("a on ", None)]


def test_loads_stand_with_the_requests_of_their_model() -> None:
    stats = Stats(started=100.0)
    stats.spans = [Span("ask", "LLMCall", 1, 3.0, 4.0, True, "default", 1)]
    loads = [
        Loading("default on 1", 98.0, 99.5), Loading("default on 1", 99.0, 101.0),
        Loading("big on 0", 102.0, 103.0),
    ]  # fmt: skip
    events = json.loads(trace_json(stats, two_models.workflow, loads=loads))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    shown = [(names[e["pid"]], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert sorted(shown) == [
        ("worker 0: model big", LOAD, 2_000_000, 1_000_000),
        ("worker 1: model default", LOAD, 0, 1_000_000),
        ("worker 1: model default", "ask", 3_000_000, 1_000_000),
    ]


@quick
@given(st.lists(st.integers(0, 40), max_size=300))
def test_of_too_many_tasks_those_of_whole_rows_are_kept(ranks: list[int]) -> None:
    stats, row = Stats(started=0.0), RowState("x", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plait.engine.run.MAX_SPANS", 20)
        for rank in ranks:
            row.rank = rank
            stats.task("ask", "LLMCall", row, 0.0, True, [])
    assert len(stats.spans) <= 20 and len(stats.spans) + stats.spans_dropped == len(ranks)
    kept = {span.rank for span in stats.spans}
    assert all(rank % stats.spans_of == 0 for rank in kept)
    if stats.spans_of > 1 and len(stats.spans) < 20:  # what is there is there whole
        assert all(sum(s.rank == r for s in stats.spans) == ranks.count(r) for r in kept)
    if len(ranks) <= 20:
        assert stats.spans_of == 1 and not stats.spans_dropped
