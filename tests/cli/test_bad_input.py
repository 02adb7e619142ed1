"""Bad input: one clear sentence on stderr, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Ended, read, topics, write_rows

Plait = Callable[..., Ended]


def run(plait: Plait, *args: str) -> Ended:
    return plait("run", "wf.py", "--backend", "fake", "--run-dir", "r", *args)


FILES: list[tuple[str, bytes, str]] = [
    ("rows.jsonl", b"", "rows.jsonl is empty"),
    ("rows.jsonl", b"\n  \n", "rows.jsonl has no rows"),
    ("rows.jsonl", b'[{"topic": "a"}, {"topic": "b"}]', "is a JSON array, not JSONL"),
    ("rows.jsonl", b'[\n{"topic": "a"},\n{"topic": "b"}\n]\n', "is a JSON array, not JSONL"),
    ("rows.jsonl", b'{\n "topic": "a"\n}\n', "rows.jsonl:1: not JSON"),
    ("rows.jsonl", b"topic,times\na,1\n", "rows.jsonl:1: not JSON"),
    ("rows.jsonl", '{"topic": "a"}'.encode("utf-16"), "rows.jsonl:1: not UTF-8"),
    ("rows.jsonl", b'{"subject": "a"}\n', "column 'topic' is missing"),
    ("rows.jsonl", b'{"subject": "a"}\n', "the file has 'subject'"),
    ("rows.csv", b"subject,times\na,1\n", "column 'topic' is missing"),
    ("rows.csv", b"", "rows.csv is empty"),
    ("rows.csv", b"topic,times\n", "has a header but no rows"),
    ("rows.csv", b"topic,topic\na,b\n", "the header has 'topic' more than once"),
    ("rows.csv", b"topic\n\xff\n\xfe\n", "rows.csv:2: not UTF-8"),
    ("rows.jsonl", b'{"id": 1, "topic": "a"}\n\n{"id": 1, "topic": "b"}\n',
     "rows.jsonl:3: id 1 is also on line 1"),
    ("rows.csv", b"id,topic\nx,a\ny,b\nx,c\n", "rows.csv:4: id 'x' is also on line 2"),
    ("rows.jsonl", b'{"id": 1, "topic": "a"}\n{"topic": "b"}\n',
     "rows.jsonl:2: the row has no id, and its position 1 is the id of line 1"),
    ("rows.parquet", b"PAR1 but no more", "not a Parquet file"),
    ("rows.xlsx", b"x", "rows are read from files that end in .jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "told"), FILES)
def test_a_file_that_is_wrong_as_a_whole(
    here: Path, plait: Plait, name: str, data: bytes, told: str
) -> None:
    (here / name).write_bytes(data)
    ended = run(plait, "-i", name)
    assert (ended.code, ended.out) == (1, "")
    assert told in ended.err and len(ended.err.splitlines()) == 1
    assert not (here / "r").exists(), "a run that never began left a directory"


def test_a_file_that_cannot_be_opened(here: Path, plait: Plait) -> None:
    (here / "folder.jsonl").mkdir()
    assert "there is no file none.jsonl" in run(plait, "-i", "none.jsonl").err
    assert "folder.jsonl is a directory" in run(plait, "-i", "folder.jsonl").err
    assert run(plait, "-i", "none.jsonl").code == run(plait, "-i", "folder.jsonl").code == 1


LINES: list[tuple[bytes, str, str]] = [
    (b'{"topic": "a"', "InputError", "rows.jsonl:2: not JSON"),
    (b"17", "InputError", "rows.jsonl:2: not a JSON object but a number"),
    (b'["topic"]', "InputError", "rows.jsonl:2: not a JSON object but an array"),
    (b'{"topic": "\xff"}', "InputError", "rows.jsonl:2: not UTF-8"),
    (b'{"topic": NaN}', "InputError", "rows.jsonl:2: NaN is not JSON"),
    (b'{"topic": 1e999}', "InputError", "rows.jsonl:2: 1e999 is too large for a number"),
    (b"[" * 100_000, "InputError", "rows.jsonl:2: the JSON is nested too deeply"),
    (b'{"topic": 5}', "InputError", "column 'topic' is not str"),
    (b'{"topic": "a", "times": "many"}', "InputError", "column 'times' is not int"),
    (b'{"subject": "a"}', "InputError", "column 'topic' is missing"),
    (b'{"topic": "boom"}', "ToolError", "tool 'shout' raised ValueError: no boom today"),
]


@pytest.mark.parametrize(("line", "kind", "told"), LINES)
def test_a_bad_line_is_a_bad_row(
    here: Path, plait: Plait, line: bytes, kind: str, told: str
) -> None:
    good = b'{"topic": "a"}\n'
    (here / "rows.jsonl").write_bytes(good + line + b"\n" + good)
    assert run(plait, "-i", "rows.jsonl").code == 2
    rows = read(here / "r" / "out.jsonl")
    assert sorted(row["status"] for row in rows) == ["error", "ok", "ok"]
    (bad,) = (row for row in rows if row["status"] == "error")
    assert bad["error"]["type"] == kind and told in bad["error"]["message"]
    assert bad["id"] in (1, "line 2")


def test_all_problems_of_a_workflow_are_told_at_once(here: Path, plait: Plait) -> None:
    (here / "wf.py").write_text(
        "from plait import llm, workflow\n@llm\ndef a(topic: str) -> str: return topic\n@workflow\n"
        "def w(topic: str) -> str:\n    a(topics=topic)\n    return a(3, 4)\n"
    )
    write_rows(here / "rows.jsonl", topics(1))
    ended = run(plait, "-i", "rows.jsonl")
    first, *problems = ended.err.splitlines()
    assert ended.code == 1 and first == f"plait: {len(problems)} problems:"
    assert any("wf.py:6" in p for p in problems) and any("wf.py:7" in p for p in problems)


def test_bad_lines_of_a_table(here: Path, plait: Plait) -> None:
    (here / "rows.csv").write_bytes(
        b'topic,times\na,1\nb\nc,1,2\nd,\n"\xff",1\ne,many\n"x"y,1\n\nf,2\ng,"1\n'
    )
    assert run(plait, "-i", "rows.csv", "--keep-order").code == 2
    rows = read(here / "r" / "out.jsonl")
    told = [row["error"]["message"] if row["error"] else row["output"] for row in rows]
    assert told == [
        "ABOUT A",
        "rows.csv:3: the row has 1 cells, the header has 2",
        "rows.csv:4: the row has 3 cells, the header has 2",
        "ABOUT D",
        "rows.csv:6: not UTF-8",
        told[5],
        "rows.csv:8: not CSV: ',' expected after '\"'",
        "ABOUT F",
        "rows.csv:11: not CSV: a quote that opens here is never closed",
    ]
    assert "column 'times' is not int" in told[5]


def test_a_row_of_ten_megabytes_is_a_row(here: Path, plait: Plait) -> None:
    sizes = (9_900_000, 1, 10_100_000)  # a tool's result may have ten
    write_rows(here / "rows.jsonl", [{"topic": "x" * size} for size in sizes])
    assert run(plait, "-i", "rows.jsonl", "-q").code == 2
    rows = {row["id"]: row for row in read(here / "r" / "out.jsonl")}
    assert [len(rows[i]["output"]) for i in (0, 1)] == [9_900_006, 7]
    assert rows[2]["error"]["type"] == "OutputError"


def test_a_line_that_is_too_long_is_not_kept_in_memory(
    here: Path, plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.engine.readers.MAX_LINE", 1000)
    write_rows(here / "rows.jsonl", [{"topic": "a"}, {"topic": "x" * 5000}, {"topic": "b"}])
    assert run(plait, "-i", "rows.jsonl").code == 2
    rows = {row["id"]: row for row in read(here / "r" / "out.jsonl")}
    assert set(rows) == {0, "line 2", 2} and "longer than" in rows["line 2"]["error"]["message"]


WORKFLOWS: list[tuple[str, str]] = [
    ("def x(:\n", "(correct this line or the one above it)"),
    ("def x(:\n", "wf.py:1: not Python"),
    ("a = 1\nb = a / 0\n", "wf.py:2: running the file raised ZeroDivisionError"),
    ("a = 1 / 0\n", "division by zero (`python wf.py` shows how it came to this)"),
    ("import no_such_module_anywhere\n", "wf.py:1: running the file raised ModuleNotFoundError"),
    ("import sys\nsys.exit(5)\n", "wf.py:2: running the file raised SystemExit: 5 (put what"),
    ("x = 1\n", "wf.py holds no workflow"),
    ("from plait import llm\n@llm\ndef a(topic: str) -> str: return topic\n"
     "@llm\ndef b(topic: str) -> str: return topic\n", "say which with wf.py:NAME"),
    ("from plait import llm, workflow\n@llm\ndef a(topic: str) -> str: return topic\n@workflow\n"
     "def w(topic: str) -> str:\n    return a(topics=topic)\n", "wf.py:6: 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "told"), WORKFLOWS)
def test_a_workflow_file_that_is_wrong(
    here: Path, plait: Plait, source: str, told: str
) -> None:  # fmt: skip
    (here / "wf.py").write_text(source)
    write_rows(here / "rows.jsonl", topics(1))
    ended = run(plait, "-i", "rows.jsonl")
    assert ended.code == 1 and told in ended.err, ended.err
    assert "Traceback" not in ended.err and not (here / "r").exists()


OPTIONS: list[tuple[tuple[str, ...], str]] = [
    (("--limit", "0"), "--limit 0 is out of range"),
    (("--limit", "many"), "Invalid value for '--limit'"),
    (("--max-errors", "lots"), "--max-errors 'lots'"),
    (("--max-rows", "0"), "max_rows=0 is out of range"),
    (("--models", "x"), "write it as ALIAS=MODEL"),
    (("--backend", "cloud"), "backend='cloud' is not known"),
    (("-o", "out.csv"), "results are written as JSONL"),
    (("-o", "no/such/out.jsonl"), "there is no directory no/such"),
    (("-o", "rows.jsonl"), "is the file of rows itself"),
    (("-o", "-", "--json"), "both want standard output"),
    (("--resume",), "no run.json"),
    (("--wrong",), "No such option"),
    (("--backend", "local", "--model", "no/such/dir/x"), "there is no model at 'no/such/dir/x'"),
    (("--backend", "local", "--models", "big=demo"), "'default'"),
]


@pytest.mark.parametrize(("options", "told"), OPTIONS)
def test_options_that_cannot_be(
    here: Path, plait: Plait, options: tuple[str, ...], told: str
) -> None:
    write_rows(here / "rows.jsonl", topics(1))
    ended = run(plait, "-i", "rows.jsonl", *options)
    assert ended.code == 1 and told in ended.err, ended.err
    assert not (here / "r").exists()


MODELS: list[tuple[dict[str, bytes], str]] = [
    ({}, "config.json"),
    ({"config.json": b"{"}, "config.json"),
    ({"config.json": b'{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}',
      "model.safetensors": b""}, "mamba"),
    ({"config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
      "pytorch_model.bin": b"pickle"}, "safetensors"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "told"), MODELS)
def test_a_model_that_cannot_be_loaded(
    here: Path, plait: Plait, files: dict[str, bytes], told: str
) -> None:
    write_rows(here / "rows.jsonl", topics(2))
    (here / "model").mkdir()
    for name, data in files.items():
        (here / "model" / name).write_bytes(data)
    ended = plait("run", "wf.py", "-i", "rows.jsonl", "--run-dir", "r", "--model", "model")
    assert ended.code == 1 and told in ended.err, ended.err
    assert "Traceback" not in ended.err and len(ended.err.splitlines()) == 1
    assert not (here / "r").exists(), "a run that never began left a directory"


def test_a_mistake_is_told_as_json_when_asked(here: Path, plait: Plait) -> None:
    ended = run(plait, "-i", "none.jsonl", "--json")
    assert ended.code == 1 and ended.json["error"]["type"] == "InputError"


TOOLS: list[tuple[str, str, str]] = [
    ("raise KeyError('k')", "ToolError", "raised KeyError"),
    ("import time; time.sleep(9)", "ToolTimeout", "took longer than 0.1 s"),
    ("return object()", "OutputError", "JSON"),
    ("return float('nan')", "OutputError", "JSON"),
    ("raise SystemExit(3)", "ToolError", "raised SystemExit"),
]


@pytest.mark.parametrize(("body", "kind", "told"), TOOLS)
def test_a_tool_that_misbehaves_fails_its_row_alone(
    here: Path, plait: Plait, body: str, kind: str, told: str
) -> None:
    (here / "wf.py").write_text(
        "from typing import Any\nfrom plait import tool\n"
        '@tool(effect="pure", timeout=0.1)\ndef odd(topic: str) -> Any:\n'
        f'    if topic == "t1":\n        {body}\n    return topic\n'
    )
    write_rows(here / "rows.jsonl", topics(3))
    assert run(plait, "-i", "rows.jsonl").code == 2
    rows = {row["id"]: row for row in read(here / "r" / "out.jsonl")}
    assert [rows[f"r{i}"]["status"] for i in range(3)] == ["ok", "error", "ok"]
    assert rows["r1"]["error"]["type"] == kind and told in rows["r1"]["error"]["message"]
    assert rows["r1"]["error"]["node"] == "odd"


def test_a_results_file_that_is_no_results_file_is_not_touched(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(3))
    assert run(plait, "-i", "rows.jsonl").code == 0
    out = here / "r" / "out.jsonl"
    lines: list[Any] = out.read_text().splitlines()
    out.write_text("\n".join([lines[0], "something else", *lines[1:]]) + "\n")
    before = out.read_bytes()
    ended = run(plait, "-i", "rows.jsonl", "--resume")
    assert ended.code == 1 and "out.jsonl:2 is not a result" in ended.err
    assert out.read_bytes() == before


def test_a_fault_of_plait_itself_says_where_its_traceback_is(
    here: Path, plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("plait.engine.prepare.open_rows", broken)
    monkeypatch.setattr("tempfile.tempdir", str(here))
    ended = run(plait, "-i", "rows.jsonl")
    assert ended.code == 4 and "a fault of plait's own: RuntimeError: a bug" in ended.err
    (written,) = here.glob("plait-traceback-*.txt")
    assert "RuntimeError: a bug" in written.read_text() and written.name in ended.err
    assert "Traceback" in run(plait, "-i", "rows.jsonl", "--debug").err


def test_a_row_may_hold_text_that_utf8_cannot_say(here: Path, plait: Plait) -> None:
    (here / "rows.jsonl").write_text('{"topic": "\\ud800"}\n{"topic": "a"}\n')
    assert run(plait, "-i", "rows.jsonl").code in (0, 2)
    lines = (here / "r" / "out.jsonl").read_bytes().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == [0, 1]
