"""`plait run`: rows in, rows out, one for each."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Ended, read, shell, topics, write_rows

Plait = Callable[..., Ended]
RUN = ("run", "wf.py", "-i", "rows.jsonl", "--backend", "fake")


def test_every_row_has_one_result_and_a_bad_one_harms_only_itself(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(30, boom=[7]))
    ended = plait(*RUN, "-o", "out.jsonl", "--run-dir", "r")
    assert ended.code == 2
    rows = {row["id"]: row for row in read(here / "out.jsonl")}
    assert len(read(here / "out.jsonl")) == 30 and set(rows) == {f"r{i}" for i in range(30)}
    assert rows["r3"]["output"] == "ABOUT T3" and rows["r3"]["error"] is None
    assert rows["r7"]["status"] == "error" and rows["r7"]["output"] is None
    assert rows["r7"]["error"]["type"] == "ToolError" and rows["r7"]["error"]["node"] == "shout"
    assert "30 rows" in ended.out and "29 ok, 1 failed" in ended.out
    assert "plait retry r --failed" in ended.out
    assert (here / "out.jsonl").read_bytes() == (here / "r" / "out.jsonl").read_bytes()


def test_the_run_directory_says_everything_about_the_run(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(5))
    assert plait(*RUN, "--run-dir", "r", "--seed", "7").code == 0
    names = {path.name for path in (here / "r").iterdir()}
    assert names == {"run.json", "plan.json", "out.jsonl", "trace.json", "report.html", "dag.svg"}
    config = json.loads((here / "r" / "run.json").read_text())
    assert config["settings"]["seed"] == 7 and config["settings"]["backend"] == "fake"
    assert {"python", "plait", "torch", "transformers"} <= set(config["versions"])
    session = config["sessions"][-1]
    assert session["status"] == "complete" and session["stats"]["rows_ok"] == 5
    assert session["stats"]["nodes"]["draft"]["calls"] == 5
    assert json.loads((here / "r" / "plan.json").read_text())["rows"] == 5
    events = json.loads((here / "r" / "trace.json").read_text())["traceEvents"]
    assert {e["name"] for e in events if e["ph"] == "X"} == {"draft", "shout"}


def test_without_output_the_results_are_in_the_run_directory(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(2))
    assert plait(*RUN).code == 0
    (run,) = (path for path in (here / "runs").iterdir() if path.is_dir())
    assert run.name.startswith("report-") and len(read(run / "out.jsonl")) == 2


def test_csv_tsv_parquet_and_jsonl_give_the_same_results(here: Path, plait: Plait) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    rows = [{"id": f"r{i}", "topic": f'a "{i}",\nb', "times": i} for i in range(4)]
    write_rows(here / "rows.jsonl", rows)
    cells = [f'r{i},"a ""{i}"",\nb",{i or ""}' for i in range(4)]
    (here / "rows.csv").write_text("\ufeffid,topic,times\n" + "\n".join(cells) + "\n")
    (here / "rows.tsv").write_text("id,topic,times\n".replace(",", "\t") + "r0\tx\t1\n")
    parquet.write_table(arrow.Table.from_pylist(rows), here / "rows.parquet")
    outputs = {}
    for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
        ended = plait("run", "wf.py", "-i", name, "--backend", "fake", "--run-dir", name[5:])
        assert ended.code == 0, ended.err
        outputs[name] = {r["id"]: r["output"] for r in read(here / name[5:] / "out.jsonl")}
    assert outputs["rows.jsonl"] == outputs["rows.csv"] == outputs["rows.parquet"]
    assert outputs["rows.csv"]["r1"] == 'ABOUT A "1",\nB'
    assert plait("run", "wf.py", "-i", "rows.tsv", "--backend", "fake").code == 0


def test_rows_from_standard_input_to_standard_output(here: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in topics(3))
    ended = shell("run", "wf.py", "-i", "-", "-o", "-", "--backend", "fake", "--run-dir", "r",
                  stdin=rows.encode())  # fmt: skip
    assert ended.code == 0
    assert {json.loads(line)["id"] for line in ended.out.splitlines()} == {"r0", "r1", "r2"}
    assert "3 rows" in ended.err
    assert read(here / "r" / "input.jsonl") == topics(3)


def test_rows_from_a_pipe_can_be_resumed_without_it(here: Path, plait: Plait) -> None:
    os.mkfifo("pipe")
    data = "".join(json.dumps(row) + "\n" for row in topics(5, boom=[1]))
    writer = threading.Thread(target=lambda: Path("pipe").write_text(data))
    writer.start()
    run = ("run", "wf.py", "-i", "pipe", "--backend", "fake", "--run-dir", "r")
    assert plait(*run, "--limit", "3").code == 2
    writer.join()
    Path("pipe").unlink()
    ended = plait(*run, "--resume", "--json")
    assert ended.code == 2 and ended.json["stats"]["rows_ok"] == 2
    assert plait("retry", "r", "--json").json["stats"]["rows_failed"] == 1
    assert len(read(here / "r" / "out.jsonl")) == 5


def test_keep_order_writes_in_the_order_of_the_input(here: Path, plait: Plait) -> None:
    (here / "late.py").write_text(
        "import asyncio\nfrom plait import tool\n"
        '@tool(effect="pure")\nasync def late(n: int) -> int:\n'
        "    await asyncio.sleep(0.05 if n % 5 == 0 else 0)\n    return n\n"
    )
    write_rows(here / "rows.jsonl", [{"n": n} for n in range(40)])
    run = ("run", "late.py", "-i", "rows.jsonl", "--backend", "fake")
    assert plait(*run, "-o", "out.jsonl", "--run-dir", "a", "--keep-order").code == 0
    assert [row["output"] for row in read(here / "out.jsonl")] == list(range(40))
    assert [row["output"] for row in read(here / "a" / "out.jsonl")] != list(range(40))
    assert plait(*run, "--run-dir", "b", "--keep-order").code == 0
    assert [row["output"] for row in read(here / "b" / "out.jsonl")] == list(range(40))


def test_limit_runs_the_first_rows_and_resume_the_rest(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(20))
    to = ("-o", "out.jsonl", "--run-dir", "r")
    assert plait(*RUN, *to, "--limit", "6").code == 0
    assert [row["id"] for row in read(here / "out.jsonl")] == [f"r{i}" for i in range(6)]
    ended = plait(*RUN, *to, "--resume", "--json")
    assert ended.code == 0
    assert ended.json["rows"] == {"total": 20, "ok": 20, "failed": 0, "left": 0}
    assert ended.json["stats"]["rows_ok"] == 14, "finished rows ran again"
    assert sorted(row["id"] for row in read(here / "out.jsonl")) == sorted(
        r["id"] for r in topics(20)
    )


def test_resume_finds_the_run_by_workflow_input_and_output(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(4))
    assert plait(*RUN, "-o", "a.jsonl", "--limit", "2").code == 0
    assert plait(*RUN, "-o", "b.jsonl", "--limit", "1").code == 0
    assert plait(*RUN, "-o", "a.jsonl", "--resume", "--json").json["stats"]["rows_ok"] == 2
    ended = plait(*RUN, "-o", "c.jsonl", "--resume")
    assert ended.code == 1 and "--run-dir" in ended.err


def test_resume_of_a_finished_run_runs_nothing(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(4, boom=[1]))
    plait(*RUN, "--run-dir", "r")
    before = (here / "r" / "out.jsonl").read_bytes()
    ended = plait(*RUN, "--run-dir", "r", "--resume", "--json")
    assert ended.code == 2 and ended.json["stats"]["rows_ok"] == 0
    assert (here / "r" / "out.jsonl").read_bytes() == before


def test_resume_cuts_off_a_line_torn_by_a_crash(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(6))
    plait(*RUN, "--run-dir", "r")
    whole = (here / "r" / "out.jsonl").read_bytes()
    (here / "r" / "out.jsonl").write_bytes(whole[:-20])
    ended = plait(*RUN, "--run-dir", "r", "--resume", "--json")
    assert ended.code == 0 and ended.json["stats"]["rows_ok"] == 1
    assert sorted(row["id"] for row in read(here / "r" / "out.jsonl")) == [
        f"r{i}" for i in range(6)
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"wf.py": "# a comment\n"}, "workflow file has changed"),
        ({"rows.jsonl": '{"id": "new", "topic": "x"}\n'}, "input file has changed"),
        (("--seed", "3"), "another seed (0, now 3)"),
        (("--model", "other"), "other models"),
    ],
)
def test_resume_refuses_what_has_changed(
    here: Path, plait: Plait, change: Any, told: str
) -> None:  # fmt: skip
    write_rows(here / "rows.jsonl", topics(4))
    plait(*RUN, "--run-dir", "r", "--limit", "2")
    options = change if isinstance(change, tuple) else ()
    for name, more in change.items() if isinstance(change, dict) else ():
        with (here / name).open("a") as file:
            file.write(more)
    ended = plait(*RUN, "--run-dir", "r", "--resume", *options)
    assert ended.code == 1 and told in ended.err and "cannot resume" in ended.err
    assert len(read(here / "r" / "out.jsonl")) == 2


def test_a_run_directory_is_not_written_over(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(2))
    plait(*RUN, "--run-dir", "r")
    ended = plait(*RUN, "--run-dir", "r")
    assert ended.code == 1 and "already holds a run" in ended.err and "--resume" in ended.err


@pytest.mark.parametrize(("allowed", "rows"), [("3", 100), ("3%", 100), ("0", 40)])
def test_max_errors_stops_admission(here: Path, plait: Plait, allowed: str, rows: int) -> None:
    write_rows(here / "rows.jsonl", topics(rows, boom=range(5, rows)))
    ended = plait(*RUN, "--run-dir", "r", "--max-errors", allowed, "--max-rows", "1", "--json")
    assert ended.code == 2 and ended.json["status"] == "max_errors"
    counts = ended.json["rows"]
    assert counts["ok"] == 5
    assert counts["failed"] <= int(allowed.rstrip("%")) + 2, "it went on"
    assert "--resume" in ended.json["resume"] and "--run-dir r" in ended.json["resume"]


def test_failed_rows_within_the_bound_do_not_stop_the_run(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(20, boom=[1, 2]))
    ended = plait(*RUN, "--max-errors", "10%", "--json")
    assert ended.code == 2 and ended.json["status"] == "complete"


def test_retry_runs_the_failed_rows_with_the_mended_workflow(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(10, boom=[2, 5]))
    assert plait(*RUN, "-o", "out.jsonl", "--run-dir", "r").code == 2
    source = (here / "wf.py").read_text()
    (here / "wf.py").write_text(source.replace('if "boom" in text', "if False"))
    ended = plait("retry", "r", "--failed", "--json")
    assert ended.code == 0 and ended.json["stats"]["rows_ok"] == 2
    for out in (here / "out.jsonl", here / "r" / "out.jsonl"):
        rows = {row["id"]: row["output"] for row in read(out)}
        assert len(read(out)) == 10 and rows["r2"] == "ABOUT BOOM"
    assert plait("retry", "r").code == 0, "nothing is left to retry"


def test_quiet_says_nothing(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(3))
    assert plait(*RUN, "--quiet") == Ended(0, "", "")


def test_a_lone_operator_and_a_yaml_file_run_too(here: Path, plait: Plait) -> None:
    (here / "one.py").write_text(
        "from plait import llm\n@llm\ndef ask(topic: str) -> str:\n    return topic\n"
    )
    (here / "one.yaml").write_text(
        'workflow: one\ninputs: [topic]\ntools: wf.py\nnodes:\n  a: {llm: "about {{topic}}"}\n'
        '  b: {tool: shout, args: {text: "{{a}}"}}\noutput: "{{b}}"\n'
    )
    write_rows(here / "rows.jsonl", topics(2))
    for file, output in (("one.py", "t0"), ("one.yaml", "ABOUT T0")):
        ended = plait(
            "run", file, "-i", "rows.jsonl", "--backend", "fake", "--run-dir", file + "-r"
        )
        assert ended.code == 0, ended.err
        assert read(here / (file + "-r") / "out.jsonl")[0]["output"] == output


def test_what_only_explains_a_run_cannot_fail_it(
    here: Path, plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no prediction")

    monkeypatch.setattr("plait.engine.batch.expectation", broken)
    write_rows(here / "rows.jsonl", topics(3))
    assert plait(*RUN, "--run-dir", "r").code == 0
    config = json.loads((here / "r" / "run.json").read_text())
    assert config["sessions"][-1]["status"] == "complete"
    assert (here / "r" / "trace.json").exists()
