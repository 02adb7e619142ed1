"""The report: what it says is so, and nothing from outside becomes part of the page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plait import InputError
from plait.engine.report import read_facts, write_report
from plait.engine.report.charts import activity, short_time
from plait.engine.report.facts import Task, spread
from plait.engine.rundir import RunDir

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
    assert (facts.ok, facts.failed, facts.dropped) == (36, 4, 3)
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
        Task("a", "LLMCall", 0, 0.0, 10.0, 1, True),
        Task("a", "LLMCall", 1, 5.0, 5.0, 2, True),
    ]
    assert "2 at once" in activity(tasks, ["a"])
    assert activity([], ["a"]) == ""


def test_small_helpers() -> None:
    assert spread([0.0, 1.0, 2.0, 4.0], 4) == [1, 1, 1, 1]
    assert spread([], 2) == [0, 0] and spread([0.0], 2) == [1, 0]
    assert [short_time(s) for s in (2e-6, 0.0123, 4.5678, 125, 4000)] == [
        "2 µs", "12.3 ms", "4.57 s", "2 min 05 s", "1 h 06 min"
    ]  # fmt: skip
