"""Plans on the command line: with, without, with rules left out, and what each rule did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from plait.engine.models import DEMO

from .conftest import Ended, read, write_rows

Plait = Callable[..., Ended]
RUN = ("run", "wf.py", "-i", "rows.jsonl", "--backend", "fake")


@pytest.fixture
def rows(here: Path) -> Path:
    write_rows(here / "rows.jsonl", [{"topic": "a"}, {"topic": "b"}, {"topic": "a"}])
    return here


def test_a_run_without_a_plan_gives_the_same_rows(rows: Path, plait: Plait) -> None:
    plain = plait(*RUN, "-o", "plain.jsonl", "--no-plan", "--json").json
    planned = plait(*RUN, "-o", "planned.jsonl", "--json").json
    left = plait(
        *RUN, "-o", "left.jsonl", "--json", "--disable", "merge_calls", "--disable", "single_flight"
    ).json
    assert plain["stats"]["merged"] == left["stats"]["merged"] == 0 < planned["stats"]["merged"]
    outputs = [
        {r["id"]: (r["status"], r["output"]) for r in read(rows / f"{name}.jsonl")}
        for name in ("plain", "planned", "left")
    ]
    assert outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) == 3


def test_the_summary_counts_merged_calls(rows: Path, plait: Plait) -> None:
    assert "merged   " in plait(*RUN).out
    assert "merged" not in plait(*RUN, "--no-plan").out


def test_an_unknown_rule_lists_the_known_ones(rows: Path, plait: Plait) -> None:
    for command in (RUN, ("explain", "wf.py", "-i", "rows.jsonl")):
        ended = plait(*command, "--disable", "merge")
        assert ended.code == 1
        assert "there is no rule 'merge'" in ended.err and "merge_calls" in ended.err


def test_a_resumed_run_keeps_its_choice(rows: Path, plait: Plait) -> None:
    ended = plait(*RUN, "--no-plan", "--limit", "1", "--run-dir", "r")
    assert ended.code == 0
    plan = (rows / "r" / "plan.json").read_text("utf-8")
    assert '"rules": []' in plan


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--no-plan --disable order_rows", "(--no-plan) and disable=['order_rows'] (--disable)"),
        ("--model a --models default=b", "--model a and --models default=b contradict"),
        ("--models x=a --models x=b", "--models x=a and --models x=b contradict"),
    ],
)
def test_options_that_contradict_are_refused(
    rows: Path, plait: Plait, given: str, told: str
) -> None:
    for command in (RUN, ("explain", "wf.py", "-i", "rows.jsonl")):
        ended = plait(*command, *given.split())
        assert ended.code == 1 and told in ended.err and ended.out == ""


def test_options_that_say_the_same_twice_are_not(rows: Path, plait: Plait) -> None:
    twice = ("--model", "demo", "--models", "default=demo", "--models", "x=a", "--models", "x=a")
    assert plait(*RUN, *twice).code == 0
    ended = plait(*RUN, "--device", "cpu", "--devices", "cpu,cpu")
    assert ended.code == 1 and "--device cpu and --devices cpu,cpu contradict" in ended.err


def test_explain_and_plan_json_show_what_stands_on_which_device(rows: Path, plait: Plait) -> None:
    devices = ("--devices", "cpu,cpu")
    told = plait("explain", "wf.py", "-i", "rows.jsonl", *devices).out
    assert "stage 1" in told and "worker 0: model default (" in told and "worker 1: " in told
    known = plait("explain", "wf.py", "-i", "rows.jsonl", *devices, "--json").json["placement"]
    assert [worker["models"] for worker in known["stages"][0]["workers"]][0] == ["default"]
    run = ("run", "wf.py", "-i", "rows.jsonl", "--kv-memory", "16MiB")
    assert plait(*run, *devices, "--run-dir", "two", "-o", "two.jsonl").code == 0
    assert plait(*run, "--run-dir", "one", "-o", "one.jsonl").code == 0
    rows_of = [{r["id"]: r["output"] for r in read(rows / f"{n}.jsonl")} for n in ("one", "two")]
    assert rows_of[0] == rows_of[1] and len(rows_of[0]) == 3
    followed = json.loads((rows / "two" / "plan.json").read_text("utf-8"))
    assert len(followed["placement"]["stages"][0]["workers"]) == 2 and followed["steps"]
    assert "placement" not in json.loads((rows / "one" / "plan.json").read_text("utf-8"))
    one, two = (
        json.loads((rows / name / "run.json").read_text("utf-8"))["sessions"][-1]
        for name in ("one", "two")
    )
    assert one["predicted"]["nodes"].keys() == two["predicted"]["nodes"].keys()
    assert two["predicted"]["seconds"] > 0
    assert two["predicted"]["nodes"]["draft"]["engine_seconds"] > 0
    assert one["cost"]["workers"] == 1 and one["cost"]["rehearsed"]["nodes"]["draft"]["calls"] == 3
    assert two["cost"]["rehearsed"]["nodes"].keys() == one["cost"]["rehearsed"]["nodes"].keys()
    compared = plait("report", "two", "--json").json["analysis"]
    assert compared["kv_peak_tokens"]["predicted"] > 0 and compared["decode_steps"]["actual"] > 0
    events = json.loads((rows / "two" / "trace.json").read_text("utf-8"))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    calls = {names[e["pid"]] for e in events if e.get("cat") == "LLMCall"}
    assert calls and all(name.startswith("worker ") and "(cpu): model" in name for name in calls)
    assert calls <= {names[e["pid"]] for e in events if e["name"] == "KV pages"}


def test_memory_on_the_host_is_priced_and_given(rows: Path, plait: Plait) -> None:
    given = ("wf.py", "-i", "rows.jsonl", "--model", "demo", "--kv-memory", "8MiB")
    without = plait("explain", *given, "--json").json["cost"]["rehearsed"]
    there = plait("explain", *given, "--host-memory", "16MiB", "--json").json["cost"]["rehearsed"]
    assert without["host_tokens"] == 0 < there["host_tokens"]
    ended = plait("run", *given, "--host-memory", "16MiB", "--run-dir", "r", "--json")
    assert ended.code == 0
    session = json.loads((rows / "r" / "run.json").read_text("utf-8"))["sessions"][-1]
    assert session["cost"]["rehearsed"]["host_tokens"] == there["host_tokens"]
    wrong = plait("run", *given, "--host-memory", "much")
    assert wrong.code == 1 and "much" in wrong.err


def test_explain_shows_what_rules_do(rows: Path, plait: Plait) -> None:
    planned = plait("explain", "wf.py", "-i", "rows.jsonl").out
    assert "3 calls -> 2" in planned and "prefill: about" in planned
    plain = plait("explain", "wf.py", "-i", "rows.jsonl", "--no-plan").out
    assert "->" not in plain and "prefill" not in plain
    verbose = plait("explain", "wf.py", "-i", "rows.jsonl", "--verbose").out
    assert "-- after prune_unused" in verbose and "same as above" in verbose
    assert verbose.strip().endswith(planned.strip())
    assert plait("explain", "wf.py", "-i", "rows.jsonl", "--no-plan", "--verbose").out == plain
    changes = plait("explain", "wf.py", "-i", "rows.jsonl", "--verbose", "--json").json["changes"]
    assert "\n".join(changes) in verbose and changes[0].startswith("-- as written")


def test_a_run_in_several_starts_is_compared_whole(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", [{"topic": topic} for topic in "abcd"])
    to = ("-o", "out.jsonl", "--run-dir", "r")
    assert plait(*RUN, *to, "--limit", "1").code == plait(*RUN, *to, "--resume").code == 0
    compare = ("explain", "--analyze", "r", "-i", "rows.jsonl")
    told = plait(*compare, "wf.py", "--json").json["analysis"]
    (draft,) = (entry for entry in told if entry["node"] == "draft")
    assert draft["predicted"][0] == draft["actual"][0] == 4
    (here / "other.py").write_text((here / "wf.py").read_text().replace("report", "another"))
    ended = plait(*compare, "other.py")
    assert ended.code == 1 and "r is a run of the workflow 'report', not of 'another'" in ended.err


def test_prompts_that_do_not_fit_are_named_before_and_in_the_run(
    here: Path, plait: Plait, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"id": f"r{n}", "topic": " ".join(["word"] * n)} for n in (5, 300, 900)]
    write_rows(here / "rows.jsonl", rows)
    told = plait("explain", "wf.py", "-i", "rows.jsonl", "--model", "demo", "--kv-memory", "2MiB")
    assert told.code == 0
    (line,) = [line for line in told.out.splitlines() if line.startswith("too long: ")]
    assert "draft, row 'r900' (and those of 1 other row)" in line and "--kv-memory" in line
    assert "KV memory of model 'default' has room for a prompt of" in line
    room = line.partition("a prompt of ")[2].partition(":")[0]
    assert "report: 1 row, without 2 with prompts that are too long" in told.out
    assert "tokens, 1 call, prefill" in told.out and "expected: " in told.out
    run = ("run", "wf.py", "-i", "rows.jsonl", "-o", "o.jsonl", "--kv-memory", "2MiB")
    with caplog.at_level("WARNING", logger="plait"):
        ran = plait(*run, "--run-dir", "r")
    assert ran.code == 2
    assert [record.getMessage() for record in caplog.records] == [line], "before the run as well"
    errors = {row["id"]: row["error"] for row in read(here / "o.jsonl")}
    assert errors["r5"] is None
    for id in ("r300", "r900"):
        assert errors[id]["type"] == "PromptError" and errors[id]["node"] == "draft"
        assert f"the KV memory has room for a prompt of {room}" in errors[id]["message"]
    session = json.loads((here / "r" / "run.json").read_text("utf-8"))["sessions"][-1]
    cost, known = session["cost"], session["predicted"]
    assert cost["rehearsed"]["nodes"]["draft"]["calls"] == known["nodes"]["draft"]["calls"] == 1
    assert cost["known"] == "limit" and known["seconds"] < cost["seconds"]
    page = (here / "r" / "report.html").read_text("utf-8")
    assert "without 2 rows whose prompts are too long" in page


def test_explain_finds_no_fault_with_prompts_that_fit(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", [{"topic": "a"}])
    found = plait("explain", "wf.py", "-i", "rows.jsonl", "--model", "demo", "--json").json
    assert "oversized" not in found and found["cost"]["seconds"] > 0


TWO = """
from plait import llm, workflow

@llm(max_tokens=4, model="small")
def draft(topic: str) -> str:
    return f"about {topic}"

@llm(max_tokens=4, model="big")
def review(text: str) -> str:
    return f"review {text}"

@workflow
def report(topic: str) -> str:
    return review(draft(topic))
"""


def test_models_that_do_not_fit_together_are_loaded_in_turn(here: Path, plait: Plait) -> None:
    for alias in ("small", "big"):
        copytree(DEMO, here / alias)
    (here / "two.py").write_text(TWO)
    write_rows(here / "rows.jsonl", [{"topic": "a"}, {"topic": "b"}])
    given = ("two.py", "-i", "rows.jsonl", "--models", "small=small", "--models", "big=big",
             "--kv-memory", "8MiB")  # fmt: skip
    told = plait("explain", *given, "--memory", "40MiB")
    assert "2 model loads" in told.out and "(small -> big)" in told.out
    ran = plait("run", *given, "--memory", "40MiB", "--run-dir", "r", "--json")
    assert ran.code == 0 and ran.json["stats"]["rows_ok"] == 2
    for command in ("explain", "run"):
        refused = plait(command, *given, "--memory", "24MiB")
        assert refused.code == 1 and refused.out == ""
        assert "MiB for weights and KV, and the limit for all models is 24.00 MiB" in refused.err


def test_a_second_run_says_what_orders_it_tried(
    rows: Path, plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has shown how long answers and tools are. The run is a very short one."""
    monkeypatch.setattr("plait.engine.trials.SHARE", 100.0)
    (rows / "wf.py").write_text(
        "from plait import llm\n@llm(max_tokens=4)\ndef draft(topic: str) -> str:\n"
        "    return f'about {topic}'\n"
    )
    run = ("run", "wf.py", "-i", "rows.jsonl", "--model", "demo")
    found = []
    for name in ("first", "second"):
        assert plait(*run, "-o", f"{name}.jsonl", "--run-dir", f"runs/{name}").code == 0
        found.append(json.loads((rows / "runs" / name / "plan.json").read_text("utf-8")))
    assert "order" not in found[0] and found[1]["order"]["orders"] >= 1
    assert found[1]["order"]["seconds"] <= found[1]["order"]["by_tokens"]
    outputs = [
        {r["id"]: r["output"] for r in read(rows / f"{n}.jsonl")} for n in ("first", "second")
    ]
    assert outputs[0] == outputs[1]


def test_the_plan_of_a_run_counts_the_tokens_of_its_model(rows: Path, plait: Plait) -> None:
    given = ("wf.py", "-i", "rows.jsonl", "--model", "demo")
    told = plait("explain", *given, "--json").json
    assert plait("run", *given, "-o", "out.jsonl", "--run-dir", "r").code == 0
    plan = json.loads((rows / "r" / "plan.json").read_text("utf-8"))
    assert plan["totals"]["prefill"] == told["totals"]["prefill"]
    assert plan["steps"] == told["steps"] and plan["dag"]


def test_a_run_follows_what_is_said_of_its_nodes(
    rows: Path, plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an earlier run: its orders are tried, and what was said is beside what it did."""
    monkeypatch.setattr("plait.engine.trials.SHARE", 100.0)
    run = ("run", "wf.py", "-i", "rows.jsonl", "--model", "demo", "-o", "out.jsonl")
    said = ("--expect", "draft=7", "--expect", "shout=0.5")
    assert plait(*run, *said, "--run-dir", "said").code == 0
    plan = json.loads((rows / "said" / "plan.json").read_text("utf-8"))
    assert plan["order"]["orders"] >= 1
    cost = json.loads((rows / "said" / "run.json").read_text("utf-8"))["sessions"][0]["cost"]
    assert (
        cost["known"] == "given" and cost["rehearsed"]["nodes"]["draft"]["generated_tokens"] == 14
    )
    told = plait("explain", "wf.py", "-i", "rows.jsonl", "--analyze", "said", "--model", "demo")
    assert "lengths of answers as given" in told.out and "shout took" in told.out
    loads = "model loads: 1 predicted, 1 actual"
    assert loads in told.out and "each model loaded once before the first row" in told.out


def test_what_is_said_of_one_node_leaves_the_others_unknown(rows: Path, plait: Plait) -> None:
    (rows / "wf.py").write_text(TWO.replace(', model="small"', "").replace(', model="big"', ""))
    run = ("run", "wf.py", "-i", "rows.jsonl", "--model", "demo", "-o", "out.jsonl")
    assert plait(*run, "--expect", "draft=2", "--run-dir", "r").code == 0
    cost = json.loads((rows / "r" / "run.json").read_text("utf-8"))["sessions"][0]["cost"]
    generated = {name: n["generated_tokens"] for name, n in cost["rehearsed"]["nodes"].items()}
    assert cost["known"] == "limit" and generated["draft"] < generated["review"]
    page = (rows / "r" / "report.html").read_text("utf-8")
    assert "Answers that nothing was known of were taken to be max_tokens long." in page
    assert "Nothing was known" not in page


def test_what_cannot_be_of_a_node_is_refused_before_a_run(rows: Path, plait: Plait) -> None:
    wrong = ("--expect", "draft=9999", "--expect", "drfat=1", "--expect", "draft=many")
    for command in ((*RUN, "--run-dir", "r"), ("explain", "wf.py", "-i", "rows.jsonl")):
        ended = plait(*command, *wrong)
        assert ended.code == 1 and ended.out == ""
        assert "draft=9999 contradicts its max_tokens" in ended.err and "'drfat'" in ended.err
        assert "'draft=many' is not NODE=NUMBER" in ended.err
    assert not (rows / "r").exists()


def test_values_that_cannot_be_written_are_shown_all_the_same(here: Path, plait: Plait) -> None:
    """A number too long for a text as an argument, and half of a character in a prompt."""
    flow = """
from typing import Any
from plait import llm, tool, workflow

@tool(effect="pure")
def size(value: Any) -> int:
    return value.bit_length()

@llm
def draft(topic: str, bits: int) -> str:
    return f"half \\ud800 of {topic} {bits}"

@workflow
def flow(topic: str, most: Any = 10**5000) -> str:
    return draft(topic, size(10**6000))
"""
    (here / "wf.py").write_text(flow)
    write_rows(here / "rows.jsonl", [{"topic": "a"}])
    told = plait("explain", "wf.py", "-i", "rows.jsonl")
    assert told.code == 0 and r"half \ud800 of" in told.out
    steps = plait("explain", "wf.py", "--json").json["steps"]
    assert any("half \ud800 of" in step.get("prompt", "") for step in steps)
    assert plait("draw", "wf.py").code == 0
    assert plait(*RUN, "--run-dir", "r").code == 0
    dag = json.loads((here / "r" / "plan.json").read_text("utf-8"))["dag"]
    assert "<int>" in json.dumps(dag)
    assert plait("report", "r").code == 0
