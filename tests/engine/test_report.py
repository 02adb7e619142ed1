"""The report: what it says is so, and nothing from outside becomes part of the page."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from plait import Generation, InputError
from plait.engine.backends.backend import Call
from plait.engine.llm.costs import Costs
from plait.engine.llm.counters import Counters
from plait.engine.prepare import prepare
from plait.engine.report import read_facts, write_report
from plait.engine.report.accounts import accounts
from plait.engine.report.charts import activity, short_time
from plait.engine.report.facts import spread
from plait.engine.report.timeline import LANES
from plait.engine.report.tracks import Task
from plait.engine.rundir import RunDir
from plait.engine.settings import Settings
from plait.engine.trace import LOAD
from plait.engine.watch import Loading
from plait.testing import FakeBackend

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"


class Tags(HTMLParser):
    """Counts tags, and notes every address a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset")]
        assert not any(k.startswith("on") for k, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with everything hostile that could stand in one."""
    run = RunDir(tmp_path / "r")
    run.path.mkdir()
    rows: list[dict[str, Any]] = []
    for i in range(40):
        ok = i % 10 != 3
        error = {"type": "ToolError", "message": EVIL, "node": f"m[{i}]/{EVIL}"}
        rows.append({"id": f"{EVIL}{i}", "status": "ok" if ok else "error", "seconds": i / 10,
                     "output": {"text": EVIL} if ok else None, "error": None if ok else error,
                     "usage": {"prompt_tokens": 5, "completion_tokens": 2}})  # fmt: skip
    run.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"id": row["id"], "question": f"Q{EVIL}"}) + "\n" for row in rows)
    )
    node = {"operator": "LLMCall", "calls": 40, "errors": 4, "seconds": 9.0, "prompt_tokens": 200,
            "cached_tokens": 50, "completion_tokens": 80}  # fmt: skip
    stats = {"seconds": 4.0, "rows_ok": 36, "rows_failed": 4, "nodes": {EVIL: node},
             "prompt_tokens": 200, "cached_tokens": 50, "completion_tokens": 80}  # fmt: skip
    session = {"started": "2026-01-01T00:00:00+00:00", "status": "complete", "stats": stats}
    run.write(
        {"workflow": EVIL, "rows": 40, "sessions": [session, session], "cwd": str(tmp_path),
         "settings": {"target": EVIL, "input": "rows.jsonl", "models": {"default": EVIL}},
         "versions": {"plait": EVIL}, "platform": EVIL}
    )  # fmt: skip
    run.drawing.write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><script>{EVIL}</script></svg>')
    span = {"name": EVIL, "cat": "LLMCall", "ph": "X", "pid": 1, "tid": 1, "ts": 5,
            "dur": 7_000_000, "args": {"row": EVIL, "ok": False}}  # fmt: skip
    run.trace.write_text(json.dumps({"traceEvents": [span], "otherData": {"spans_dropped": 3}}))
    return run


def test_nothing_from_outside_becomes_part_of_the_page(run: RunDir) -> None:
    page = parsed(write_report(run).read_text())
    assert page.tags.count("script") == 2, "the data and the program of the timeline"
    assert page.tags.count("img") == 1
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.fetched)
    assert EVIL in page.text, "a text is shown as it is"


def test_a_page_without_rows_is_a_page_too(run: RunDir) -> None:
    for path in (run.out, run.trace, run.plan, run.drawing):
        path.unlink(missing_ok=True)
    assert "running" not in parsed(write_report(run).read_text()).fetched
    run.out.write_text("")
    assert parsed(write_report(run).read_text()).tags.count("section") >= 1


def test_the_figures_are_those_of_the_run(run: RunDir) -> None:
    facts = read_facts(run)
    assert (facts.ok, facts.failed, facts.tracks.dropped) == (36, 4, 3)
    assert facts.total("prompt_tokens") == 400 and facts.wall == 8.0, "two starts"
    assert facts.nodes[EVIL]["calls"] == 80
    (failures,) = facts.failures.values()
    assert failures.count == 4 and failures.nodes == {f"m/{EVIL}": 4}, "items are counted together"
    assert len(failures.examples) == 3
    assert [row["seconds"] for row in facts.slowest] == [i / 10 for i in range(39, 29, -1)]
    assert len(facts.samples) == 8 and facts.samples[0]["id"] == f"{EVIL}0"
    assert facts.inputs[f"{EVIL}0"]["question"] == f"Q{EVIL}"
    assert facts.quantile(0.5) == pytest.approx(2.0)


def test_a_directory_without_a_run_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run directory"):
        write_report(RunDir(tmp_path))
    RunDir(tmp_path).config.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        write_report(RunDir(tmp_path))


def test_activity_is_the_number_of_tasks_under_way() -> None:
    tasks = [
        Task("a", 0, 0, 0.0, 10.0, 1, True),
        Task("a", 0, 1, 5.0, 5.0, 2, True),
    ]
    assert "2 at once" in activity(tasks, ["a"])
    assert activity([], ["a"]) == ""


class Counting(FakeBackend):
    """A fake model that says how its KV pool stands, as the local one does."""

    made = 0

    async def generate(self, call: Call) -> list[Generation]:
        self.made += 1
        return await super().generate(call)

    def counters(self) -> dict[str, Counters]:
        made = self.made
        return {"default": Counters(steps=made, step_seconds=made / 10, generated_tokens=made,
                                    free_pages=90, cached_pages=7, held_pages=3)}  # fmt: skip

    def costs(self) -> dict[str, Costs]:
        return {"default": Costs()}

    def loads(self) -> list[Loading]:
        return [Loading("default", time.perf_counter() - 0.002, time.perf_counter())]


WORKFLOW = """
import plait

@plait.llm
def draft(topic: str) -> str:
    return f"About {topic}"

@plait.tool(effect="pure")
def look(text: str) -> str:
    return text

@plait.llm
def vain(topic: str) -> str:
    return f"For nothing {topic}"

@plait.workflow
def note(topic: str) -> list[str]:
    vain(topic)
    return plait.map(draft, [draft(topic), look(topic)])
"""


def run_of(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    (tmp_path / "w.py").write_text(WORKFLOW)
    lines = (json.dumps({"topic": f"bees {i % 3}"}) + "\n" for i in range(rows))
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    settings = Settings(f"{tmp_path / 'w.py'}:note", str(tmp_path / "rows.jsonl"), backend="fake")
    monkeypatch.setattr("plait.engine.engine.FakeBackend", Counting)
    batch = prepare(settings, tmp_path / "run")
    asyncio.run(batch.execute())
    batch.engine.close()
    return batch.run


def drawing_of(page: str) -> str:
    (source,) = (f for f in parsed(page).fetched if f.startswith("data:image/svg"))
    return base64.b64decode(source.partition(",")[2]).decode()


@pytest.mark.parametrize("rows", [1, 1_000])
def test_a_report_puts_the_plan_beside_the_run_whatever_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    run = run_of(tmp_path, rows, monkeypatch)
    page = write_report(run).read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:)|@import|url\(|fetch\(", page)
    assert len(page) < 900_000
    distinct = min(rows, 3)
    found = accounts(read_facts(run))
    assert (found["draft"].made, found["look"].made) == (distinct, distinct)
    assert found["draft"].step["calls"] == rows and found["draft"].step["merged"] == distinct
    engine = [a.engine["engine_seconds"] for a in found.values() if a.llm and a.ran]
    session = read_facts(run).sessions[-1]
    assert sum(engine) == pytest.approx(session["engine"]["default"]["step_seconds"]) != 0
    shown = drawing_of(page)
    ElementTree.fromstring(shown)
    told = f"calls {rows:,} → {distinct}, made {distinct}" if rows > 1 else "calls 1, made 1"
    assert told in shown
    assert "left out by the plan" in shown, "a node that no output needs"
    assert f'"{LOAD}"' in page and "draft" in page, "loads stand among the tasks"
    whole, nodes = _tables(page)[:2]
    # Costs are known of this fake model, but it cannot be rehearsed.
    assert whole["KV tokens at the peak"][0] == "not predicted" != whole["time"][0]
    assert "summed up, not rehearsed" in parsed(page).text
    # Answers are as long as they may be, which bounds their tokens and not the seconds.
    assert whole["generated tokens"][0].startswith("at most ")
    assert whole["time"][0].count(" to ") == 1 and "at most" not in whole["time"][0]
    assert nodes["node"][:3] == ["asked for", "predicted", "made"]
    assert nodes["draft"][:3] == [f"{rows:,}", str(distinct), str(distinct)]


def _tables(page: str) -> list[dict[str, list[str]]]:
    """The tables of a page: the cells of each row behind its first, by that."""
    found = []
    for table in re.findall(r"<table.*?</table>", page, re.S):
        quoted = re.sub(r"class=(\w+)", r'class="\1"', table)
        rows = ElementTree.fromstring(quoted).iter("tr")
        texts = (["".join(cell.itertext()) for cell in row] for row in rows)
        found.append({first: rest for first, *rest in texts})
    return found


COST = {
    "seconds": 2.0, "low": 1.5, "high": 2.5, "prefill_seconds": 0.5, "decode_seconds": 1.25,
    "tool_seconds": 0.25, "load_seconds": 3.0, "path_seconds": 0.75, "decode_tokens": 90.0,
    "decode_steps": 40.0, "loads": ["small", "big"], "path": ["ask", "look"], "bound": "decode",
    "known": "history", "measured": True, "workers": 1,
    "rehearsed": {
        "rows": 40, "kv_peak_tokens": 800, "tool_seconds": 0.5, "nodes": {
            "ask": {"calls": 40, "merged": 10, "prompt_tokens": 210, "prefill_tokens": 150,
                    "generated_tokens": 90, "seconds": 0.125},
            "look": {"calls": 40, "merged": 36, "prompt_tokens": 0, "prefill_tokens": 0,
                     "generated_tokens": 0, "seconds": 0.125},
        },
    },
}  # fmt: skip


def test_all_that_was_predicted_is_beside_what_was_measured(run: RunDir) -> None:
    config = run.read()
    first, last = config["sessions"]
    ran = first["stats"]["nodes"][EVIL]
    tool = {**dict.fromkeys(ran, 0), "operator": "ToolCall", "calls": 20, "merged": 18,
            "seconds": 0.25}  # fmt: skip
    for start in (first, last):
        start["stats"]["nodes"] = {"ask": {**ran, "calls": 20, "merged": 4}, "look": tool}
        start["engine"] = {"small": {"steps": 18, "step_seconds": 1.0}}
        start["pages"] = {"small": {"held": 3, "all": 10}}
        loads = {alias: {"loads": 1} for alias in ("small", "same as small")}
        start["backend"] = {"loads": loads, "loaded": {"small": {"kv_tokens": 2_560}}}
        start["predicted"] = {"nodes": {"ask": {"seconds": 0.5, "engine_seconds": 1.0}}}
    last["cost"] = COST
    run.write(config)
    page = write_report(run).read_text()
    whole, nodes = _tables(page)[:2]
    assert whole == {
        "": ["predicted", "measured"],
        "time": ["2 s (1.5 s to 2.5 s)", "8 s"],
        "calls of models": ["40 → 30", "40 → 32"],
        "calls of tools": ["40 → 4", "40 → 4"],
        "prompt tokens, asked for → computed": ["210 → 150", "400 → 300"],
        "generated tokens": ["90", "160"],
        "engine at work": ["1.75 s: prefill 500 ms, decode 1.25 s", "2 s"],
        "engine steps": ["40", "36"],
        "tools, all calls together": ["500 ms, 250 ms on the critical path", "500 ms"],
        "KV tokens at the peak": ["800", "768"],
        "model loads": ["2, 3 s: small → big", "2"],
        "critical path of a row, alone": ["750 ms: ask → look", "not measured"],
        "bound by": ["decode", "engine at work 25% of the time"],
    }
    assert nodes["ask"] == [
        "40", "30", "32", "210", "150", "300", "90", "160", "125 ms", "562 ms", "2 s"
    ]  # fmt: skip
    assert nodes["look"][:3] == ["40", "4", "4"] and nodes["look"][3:8] == ["–"] * 5
    assert nodes["all together"][:3] == ["80", "34", "36"]
    assert read_facts(run).as_json()["analysis"]["kv_peak_tokens"] == {
        "predicted": 800, "actual": 768
    }  # fmt: skip


def test_a_run_without_costs_says_that_nothing_was_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "costs", lambda _: {})
    page = write_report(run_of(tmp_path, 3, monkeypatch)).read_text()
    whole, nodes = _tables(page)[:2]
    unpredicted = {what for what, cells in whole.items() if cells[0] == "not predicted"}
    assert {"time", "generated tokens", "model loads", "bound by"} <= unpredicted
    assert "Not predicted: a fake model has no costs." in parsed(page).text
    assert nodes["all together"][0] and "decode not predicted, wrote" in drawing_of(page)


def test_pages_and_requests_are_drawn_and_lanes_that_are_not_are_said(run: RunDir) -> None:
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": "model m"}}
    ]
    for at in (0, 1_000_000, 2_000_000):
        common = {"ph": "C", "pid": 1, "tid": 0, "ts": at}
        pages = {"held": 10, "cached": 20, "free": 970}
        events.append({"name": "KV pages", **common, "args": pages})
        events.append({"name": "requests", **common, "args": {"running": 4, "waiting": 9}})
    events += [
        {"name": EVIL, "cat": "LLMCall", "ph": "X", "pid": 1, "tid": lane, "ts": 5, "dur": 9,
         "args": {"row": lane, "ok": True}}
        for lane in range(1, LANES + 8)
    ]  # fmt: skip
    run.trace.write_text(json.dumps({"traceEvents": events}))
    page = write_report(run).read_text()
    text = parsed(page).text
    assert "at most 30 of 1,000 pages (3.0%)" in text and "at most 4 running" in text
    assert f"beyond the first {LANES} are not drawn (7 of model m)" in text
    data = re.search(r'id="spans">(.*?)</script>', page, re.S)
    assert data and len(json.loads(data[1])["spans"]) == LANES


def test_small_helpers() -> None:
    assert spread([0.0, 1.0, 2.0, 4.0], 4) == [1, 1, 1, 1]
    assert spread([], 2) == [0, 0] and spread([0.0], 2) == [1, 0]
    assert [short_time(s) for s in (2e-6, 0.0123, 4.5678, 125, 4000)] == [
        "2 µs", "12.3 ms", "4.57 s", "2 min 05 s", "1 h 06 min"
    ]  # fmt: skip
