"""`plait explain` without a run and beside one: what is compared with what, and that it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Ended, write_rows

Plait = Callable[..., Ended]
RUN = ("run", "wf.py", "--backend", "fake", "-o", "out.jsonl", "--run-dir", "r")
BESIDE = ("explain", "wf.py", "--analyze", "r")
SAME = "fewer values were equal"


@pytest.fixture
def rows(here: Path) -> Path:
    write_rows(here / "rows.jsonl", [{"topic": "a"}, {"topic": "b"}, {"topic": "a"}])
    return here


def calls(ended: Ended) -> dict[str, tuple[int, int]]:
    """Calls of every node, predicted and actual."""
    entries = ended.json["analysis"]
    return {e["node"]: (e["predicted"][0], e["actual"][0]) for e in entries}


def test_without_rows_those_of_the_run_are_taken(rows: Path, plait: Plait) -> None:
    assert plait(*RUN, "-i", "rows.jsonl").code == 0
    told = plait(*BESIDE).out
    assert "report: 3 rows" in told and "compared with r (3 rows of rows.jsonl" in told
    assert SAME not in told and "none were foreseen" not in told
    found = calls(plait(*BESIDE, "--json"))
    assert found["draft"] == (2, 2) and found["shout"] == (2, 2)


def test_a_run_of_standard_input_has_its_rows(rows: Path, plait: Plait) -> None:
    with (rows / "rows.jsonl").open() as lines, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", lines)
        assert plait(*RUN, "-i", "-").code == 0
    assert "compared with r (3 rows of standard input" in plait(*BESIDE).out


@pytest.mark.parametrize(
    ("option", "made"),
    [(["--no-plan"], 3), (["--disable", "merge_calls", "--disable", "single_flight"], 3),
     (["--disable", "share_prefixes"], 2), (["--limit", "1"], 1)],
)  # fmt: skip
def test_the_settings_of_the_run_are_taken(
    rows: Path, plait: Plait, option: list[str], made: int
) -> None:
    assert plait(*RUN, "-i", "rows.jsonl", *option).code == 0
    told = plait(*BESIDE).out
    assert " ".join(option) in told and "the run was made with --no-plan" not in told
    assert SAME not in told and "foreseen" not in told
    assert calls(plait(*BESIDE, "--json"))["draft"] == (made, made)


@pytest.mark.parametrize(
    ("made", "now", "told"),
    [
        ("--no-plan", "--plan", "the run was made with --no-plan, predicted is with a plan"),
        ("", "--no-plan", "the run was made with a plan, predicted is with --no-plan"),
        ("--no-plan", "--disable order_rows", "predicted is with --disable order_rows"),
        ("--disable order_rows", "--no-plan", "made with --disable order_rows, predicted is "
         "without --disable"),
        ("--limit 1", "--limit 2", "the run was made with --limit 1, predicted is with --limit 2"),
        ("", "--expect draft=3", "made without --expect, predicted is with --expect draft=3"),
        ("", "--model other", "made with --model demo, predicted is with --model "),
    ],
)  # fmt: skip
def test_what_is_given_wins_and_is_said_where_it_differs(
    rows: Path, plait: Plait, made: str, now: str, told: str
) -> None:
    from plait.engine.models import DEMO

    (rows / "other").symlink_to(DEMO)
    assert plait(*RUN, "-i", "rows.jsonl", *made.split()).code == 0
    ended = plait(*BESIDE, *now.split())
    assert ended.code == 0 and told in ended.out
    assert told in "\n".join(plait(*BESIDE, *now.split(), "--json").json["notes"])
    assert plait(*BESIDE).out.count("the run was made with") == 1, "the backend alone"


def test_rows_and_workflows_that_are_others_now_are_said(rows: Path, plait: Plait) -> None:
    assert plait(*RUN, "-i", "rows.jsonl").code == 0
    write_rows(rows / "more.jsonl", [{"topic": t} for t in "abcd"])
    assert "the rows are not the run's (rows.jsonl)" in plait(*BESIDE, "-i", "more.jsonl").out
    assert "the rows" not in plait(*BESIDE, "-i", "rows.jsonl").out
    (rows / "more.jsonl").replace(rows / "rows.jsonl")
    told = plait(*BESIDE).out
    assert "the rows have changed since the run" in told and "report: 4 rows" in told
    (rows / "wf.py").write_text((rows / "wf.py").read_text() + "\n# changed\n")
    assert "the workflow file has changed since the run" in plait(*BESIDE).out
    (rows / "rows.jsonl").unlink()
    gone = plait(*BESIDE)
    assert gone.code == 1 and gone.out == "" and "not there any more" in gone.err
    assert "give the rows with -i" in gone.err


def test_rows_that_failed_or_ran_again_are_said(rows: Path, plait: Plait) -> None:
    write_rows(rows / "rows.jsonl", [{"topic": "a"}, {"topic": "boom"}])
    assert plait(*RUN, "-i", "rows.jsonl").code == 2
    assert "1 row of the run failed" in plait(*BESIDE).out
    assert plait("retry", "r").code == 2
    told = plait(*BESIDE).out
    assert "1 row of the run ran again" in told


def test_nothing_known_of_answers_is_no_wrong_guess(rows: Path, plait: Plait) -> None:
    assert plait(*RUN, "-i", "rows.jsonl").code == 0
    (most,) = [s["max_tokens"] for s in plait(*BESIDE, "--json").json["steps"] if "model" in s]
    told = plait(*BESIDE).out
    assert f"<={2 * most:,} -> " in told and f"at most {most}" in told
    assert f"not {most}" not in told


def test_what_was_known_when_the_run_began_is_compared(rows: Path, plait: Plait) -> None:
    for name in ("first", "second"):
        to = ("--run-dir", f"runs/{name}", "-o", f"{name}.jsonl", "-i", "rows.jsonl")
        assert plait("run", "wf.py", "--backend", "fake", *to).code == 0
    entries = plait("explain", "wf.py", "--analyze", "runs/second", "--json").json["analysis"]
    (draft,) = [e for e in entries if e["node"] == "draft"]
    assert draft["lengths"] == "history" and draft["predicted"][2] == draft["actual"][2]
    assert "answers of draft" not in plait("explain", "wf.py", "--analyze", "runs/second").out


def test_every_node_has_its_seconds(rows: Path, plait: Plait) -> None:
    run = ("run", "wf.py", "-i", "rows.jsonl", "-o", "o.jsonl", "--run-dir", "r", "--model", "demo")
    assert plait(*run, "--expect", "draft=4", "--expect", "shout=0.5").code == 0
    for model in ((), ("--model", "demo")):
        told = plait(*BESIDE, *model).out
        table = told[told.index("predicted -> actual") :].splitlines()[:4]
        assert "a call takes" in table[0] and all(len(line) <= 100 for line in table)
        (draft,), (shout,) = ([r for r in table if r.startswith(f"  {n}")] for n in ("dr", "sh"))
        assert "0.50 s -> " in shout and draft.rstrip().endswith("s")
        assert ("- -> " in draft) == (not model)
    entries: list[dict[str, Any]] = plait(*BESIDE, "--model", "demo", "--json").json["analysis"]
    assert all(e["seconds_each"]["actual"] > 0 for e in entries[:-1])


def test_what_only_a_price_shows_needs_a_model(rows: Path, plait: Plait) -> None:
    explain = ("explain", "wf.py", "-i", "rows.jsonl")
    for option in (["--calibrate"], ["--expect", "draft=3"], ["--memory", "1GiB"]):
        ended = plait(*explain, *option)
        assert ended.code == 1 and ended.out == "" and f"{option[0]} needs --model" in ended.err
    assert plait(*explain, "--model", "demo", "--expect", "draft=3").code == 0


def test_a_folder_without_history_is_said_where_it_was_named(rows: Path, plait: Plait) -> None:
    explain = ("explain", "wf.py", "-i", "rows.jsonl")
    assert "history.json" not in plait(*explain).out
    told = plait(*explain, "--runs", "nowhere")
    assert told.code == 0 and "nowhere holds no history.json" in told.out
    assert len(plait(*explain, "--runs", "nowhere", "--json").json["notes"]) == 1
    assert plait(*RUN[:-1], "runs/r", "-i", "rows.jsonl").code == 0
    assert "history.json" not in plait(*explain, "--runs", "runs").out
    assert json.loads((rows / "runs" / "history.json").read_text())["operators"]


def test_a_hint_that_no_call_can_keep_is_refused(rows: Path, plait: Plait) -> None:
    for command in (
        ("run", "wf.py", "-i", "rows.jsonl", "--backend", "fake", "--run-dir", "r"),
        ("explain", "wf.py", "-i", "rows.jsonl", "--model", "demo"),
    ):
        ended = plait(*command, "--expect", "shout=6", "--expect", "draft=9999")
        assert ended.code == 1 and ended.out == ""
        assert "shout=6 contradicts its timeout=5: a run would end such a call" in ended.err
        assert "draft=9999 contradicts its max_tokens" in ended.err, "all at once"
    assert not (rows / "r").exists()
