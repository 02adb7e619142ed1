"""Pure tools that are called while planning: what commands say of them, and how often they run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ended, read, write_rows

Plait = Callable[..., Ended]
RUN = ("run", "wf.py", "-i", "rows.jsonl", "--backend", "fake")
EXPLAIN = ("explain", "wf.py", "-i", "rows.jsonl")
MADE = "called while planning: shout(text='see') = 'SEE'"
WORKFLOW = """
from pathlib import Path
from plait import llm, tool, workflow

@llm(max_tokens=4)
def draft(style: str, topic: str) -> str:
    return f"{style}: about {topic}"

@tool(effect="pure")
async def shout(text: str) -> str:
    with Path("calls").open("a") as file:
        file.write(text + "\\n")
    if "boom" in text:
        raise ValueError("no boom today")
    return text.upper()

@workflow
def flow(topic: str) -> str:
    return draft(shout("see"), topic)
"""


@pytest.fixture
def rows(here: Path) -> Path:
    (here / "wf.py").write_text(WORKFLOW)
    write_rows(here / "rows.jsonl", [{"topic": "a"}, {"topic": "b"}, {"topic": "a"}])
    return here


def calls(here: Path) -> int:
    place = here / "calls"
    return len(place.read_text().splitlines()) if place.exists() else 0


def test_explain_makes_the_call_and_says_what_the_rule_did(rows: Path, plait: Plait) -> None:
    told = plait(*EXPLAIN, "--verbose").out
    written, _, behind = told.partition("-- after fold_constants")
    assert "ToolCall shout(text='see')" in written and "called" not in written
    assert MADE in behind.partition("-- after prune_unused")[0] and "ToolCall" not in behind
    assert calls(rows) == 1
    (made,) = plait(*EXPLAIN, "--json").json["called"]
    assert (made["node"], made["value"]) == ("shout", "'SEE'")
    for off in (["--disable", "fold_constants"], ["--no-plan"]):
        assert "pure tool, 3 calls" in plait(*EXPLAIN, *off).out
    assert calls(rows) == 2
    assert "pure tool" in plait("explain", "wf.py").out and calls(rows) == 2  # no rows


def test_a_price_needs_one_call(rows: Path, plait: Plait) -> None:
    assert MADE in plait(*EXPLAIN, "--model", "demo").out
    assert calls(rows) == 1


def test_a_run_makes_it_once_and_writes_it_down(rows: Path, plait: Plait) -> None:
    ended = plait(*RUN, "--run-dir", "r", "-o", "one.jsonl", "--json")
    assert calls(rows) == 1
    assert ended.json["stats"]["nodes"]["shout"]["calls"] == 1
    plan = json.loads((rows / "r" / "plan.json").read_text("utf-8"))
    assert [made["node"] for made in plan["called"]] == ["shout"]
    assert {step["id"] for step in plan["steps"]} == {"topic", "draft"} and "dag" in plan
    events = json.loads((rows / "r" / "trace.json").read_text("utf-8"))["traceEvents"]
    (call,) = [event for event in events if event["name"] == "shout"]
    assert call["args"]["row"] == "planning"
    plait(*RUN, "--run-dir", "s", "-o", "two.jsonl", "--disable", "fold_constants")
    assert calls(rows) == 2 and "called" not in (rows / "s" / "plan.json").read_text("utf-8")
    outputs = [
        {r["id"]: (r["status"], r["output"]) for r in read(rows / name)}
        for name in ("one.jsonl", "two.jsonl")
    ]
    assert outputs[0] == outputs[1] and len(outputs[0]) == 3


def test_a_call_that_fails_is_told_by_its_rows(rows: Path, plait: Plait) -> None:
    (rows / "wf.py").write_text(WORKFLOW.replace('"see"', '"boom"'))
    explained = plait(*EXPLAIN)
    assert explained.code == 0 and "pure tool, 3 calls -> 1" in explained.out
    ended = plait(*RUN, "-o", "out.jsonl")
    assert ended.code == 2
    assert {row["error"]["node"] for row in read(rows / "out.jsonl")} == {"shout"}
