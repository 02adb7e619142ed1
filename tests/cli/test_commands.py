"""The commands beside run, and what the command line costs before it does anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plait.cli.progress import Snapshot, Speed, spell

from .conftest import Ended, shell, topics, write_rows

Plait = Callable[..., Ended]
RUN = ("run", "wf.py", "-i", "rows.jsonl", "--backend", "fake")
COMMANDS = ("run", "check", "draw", "explain", "report", "diff", "retry", "doctor", "demo", "bench")


def test_help_is_quick_to_load() -> None:
    heavy = ("torch", "transformers", "networkx", "aiohttp", "pydantic", "rich.console", "asyncio")
    code = (
        "import sys\nfrom plait.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(re.search(rf"^  {name} ", done.stdout, re.M) for name in COMMANDS)


@pytest.mark.parametrize("args", [("check", "wf.py"), ("draw", "wf.py"), ("explain", "wf.py"),
                                  (*RUN, "-q")])  # fmt: skip
def test_nothing_but_a_local_model_loads_torch(here: Path, args: tuple[str, ...]) -> None:
    write_rows(here / "rows.jsonl", topics(2))
    code = (
        "import sys\nfrom plait.cli import main\n"
        f"try: main({list(args)!r})\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_every_command_has_help_and_json(plait: Plait) -> None:
    for name in COMMANDS:
        command = (name, "overhead") if name == "bench" else (name,)
        ended = plait(*command, "--help")
        assert ended.code == 0 and "--json" in ended.out
    assert plait("nonsense").code == 1
    assert plait("--version").out.strip() == "0.1.0"


def test_check_tells_all_problems_with_file_and_line(here: Path, plait: Plait) -> None:
    assert plait("check", "wf.py").code == 0
    (here / "bad.py").write_text(
        "from plait import llm, workflow\n@llm\ndef ask(topic: str) -> str:\n    return topic\n"
        "@workflow\ndef wf(topic: str) -> str:\n"
        "    a = ask(subject=topic)\n    b = ask(topic, 3)\n    return a\n"
    )
    ended = plait("check", "bad.py")
    assert ended.code == 1
    assert "bad.py:7" in ended.out and "bad.py:8" in ended.out, "it stopped at the first problem"
    problems = plait("check", "bad.py", "--json").json["problems"]
    assert {7, 8} <= {problem["line"] for problem in problems}
    assert plait("check", "none.py").code == 1


def test_check_knows_the_models_it_is_given(here: Path, plait: Plait) -> None:
    (here / "two.py").write_text(
        'from plait import llm\n@llm(model="big")\ndef ask(topic: str) -> str:\n    return topic\n'
    )
    assert plait("check", "two.py").code == 0
    assert plait("check", "two.py", "--models", "big=demo").code == 0
    ended = plait("check", "two.py", "--models", "small=demo")
    assert ended.code == 1 and "'big'" in ended.out


@pytest.mark.parametrize(("name", "start"), [("a.svg", "<svg"), ("a.mmd", "flowchart"),
                                             ("a.html", "<!doctype html>")])  # fmt: skip
def test_draw_writes_the_kind_that_the_name_says(
    here: Path, plait: Plait, name: str, start: str
) -> None:
    assert plait("draw", "wf.py", "-o", name).code == 0
    text = (here / name).read_text()
    assert text.startswith(start) and "draft" in text
    assert plait("draw", "wf.py").out.startswith("flowchart")
    assert plait("draw", "wf.py", "-o", "a.png").code == 1
    assert plait("draw", "wf.py", "-o", "no/such/a.svg").code == 1


def test_explain_counts_before_anything_runs(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", [{"topic": "a"}, {"topic": "a"}, {"topic": "b"}])
    ended = plait("explain", "wf.py", "-i", "rows.jsonl")
    assert ended.code == 0 and "3 LLM calls" in ended.out
    plan = plait("explain", "wf.py", "-i", "rows.jsonl", "--json", "--limit", "2").json
    assert plan["rows"] == 2 and plan["totals"]["llm_calls"] == 2
    assert plait("explain", "wf.py").code == 0


def test_diff_compares_row_by_row(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(9))
    for name in ("a", "b"):
        assert plait(*RUN, "--run-dir", name, "--max-rows", "3" if name == "a" else "1").code == 0
    assert plait("diff", "a", "b").code == 0
    lines = (here / "b" / "out.jsonl").read_text().splitlines()
    changed = json.loads(lines[0])
    changed["output"] = "other"
    (here / "c.jsonl").write_text("\n".join([json.dumps(changed), *lines[2:]]) + "\n")
    ended = plait("diff", "a", "c.jsonl")
    assert ended.code == 2 and "7 rows are the same, 2 differ" in ended.out
    found = plait("diff", "a", "c.jsonl", "--json").json
    assert found["different"] == 2 and None in [row["b"] for row in found["rows"]]
    found = plait("diff", "c.jsonl", "a", "--json").json
    assert found["different"] == 2 and None in [row["a"] for row in found["rows"]]
    assert plait("diff", "a", "none").code == 1


def test_report_is_made_again_from_the_directory(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(9, boom=[3]))
    plait(*RUN, "--run-dir", "r")
    assert plait("report", "r", "-o", "other.html").code == 0
    assert (here / "other.html").read_text() == (here / "r" / "report.html").read_text()
    found = plait("report", "r", "--json").json
    assert found["rows"] == {"total": 9, "ok": 8, "failed": 1}
    assert found["errors"] == {"ToolError": 1} and found["nodes"]["draft"]["calls"] == 9
    ended = plait("report", str(here))
    assert ended.code == 1 and "no run.json" in ended.err


def test_doctor_looks_at_this_machine(plait: Plait) -> None:
    ended = plait("doctor", "--json")
    assert ended.json["checks"]["python"]["ok"] is True
    assert ended.code == (0 if ended.json["ok"] else 1)
    checks = ended.json["checks"]
    assert {"torch", "gpu", "memory", "disk", "extra parquet"} <= set(checks)
    device = checks["device"]["found"]
    assert device.startswith(("cpu", "cuda"))
    kind = "float32" if device.startswith("cpu") else "the checkpoint's own type"
    assert f"models run in {kind}" in device
    assert "GFLOP/s" in checks["peaks"]["found"] and "calibration" in checks


def test_doctor_measures_a_model(
    plait: Plait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_CACHE_DIR", str(tmp_path))
    assert "none measured" in plait("doctor", "--json").json["checks"]["calibration"]["found"]
    checks = plait("doctor", "--model", "demo", "--json").json["checks"]
    assert "float32" in checks["model"]["found"] and "GFLOP/s" in checks["peaks"]["found"]
    checks = plait("doctor", "--json").json["checks"]
    assert "1 measured" in checks["calibration"]["found"]
    assert "decode step" in checks["costs of demo_model float32"]["found"]
    assert plait("doctor", "--model", str(tmp_path / "none")).code == 1


def test_the_demo_compares_two_ways_of_solving(here: Path, plait: Plait) -> None:
    ended = plait("demo", "--backend", "fake", "--run-dir", "r")
    assert ended.code == 0 and "a plan, carried out by a tool" in ended.out
    assert "0/100" in ended.out, "a fake model is not right"
    ended = plait("demo", "--backend", "fake", "--run-dir", "s", "--json")
    assert ended.json["right"]["planned_right"]["all"] == [0, 100]


def test_python_dash_m_and_a_closed_pipe(here: Path) -> None:
    assert shell("--version").out.strip() == "0.1.0"
    command = f"{sys.executable} -m plait explain wf.py | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_the_estimate_holds_the_truth_when_rows_come_evenly() -> None:
    speed = Speed(Snapshot(0.0, 0, 0, 0, 0))
    assert speed.left(100) is None
    for second in range(1, 60):
        speed.add(Snapshot(float(second), 10 * second, 0, 500 * second, 0))
        least, most = speed.left(1000) or (0.0, 0.0)
        assert least < 100 < most
    assert speed.per_second("tokens") == 500
    assert most - least < 40, "the range does not become narrower"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (125, "2:05"), (11400, "3:10:00")],
)
def test_times_are_spelled_briefly(seconds: float, text: str) -> None:
    assert spell(seconds) == text


def test_the_gaps_of_orders_and_of_placements_are_told_apart(plait: Callable[..., Ended]) -> None:
    found = plait("bench", "gap", "--instances", "3", "--json").json
    assert {name: gap["instances"] for name, gap in found.items()} == dict.fromkeys(
        ("tokens", "seconds", "placement", "placement_by_thumb", "joint"), 3
    )
    assert abs(found["placement"]["worst"]) < 1e-6 and found["placement"]["exact"] == 3
    assert found["placement_by_thumb"]["exact"] == 0
    told = plait("bench", "gap", "--instances", "2").out
    assert told.count("2 random placements") == 2 and told.count("2 random batches") == 3
