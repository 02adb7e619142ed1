"""How a run ends when what is around it goes wrong: disks, pipes, tools that do not stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plait.engine import batch as batches

from .conftest import Ended, read, shell, topics, write_rows

Plait = Callable[..., Ended]
RUN = ("run", "wf.py", "-i", "rows.jsonl", "--backend", "fake")


def test_a_results_file_of_another_run_is_not_taken_for_this_one(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(3))
    assert plait(*RUN, "-o", "out.jsonl", "--run-dir", "r").code == 0
    ended = plait(*RUN, "--run-dir", ".")
    assert ended.code == 1 and "holds other results" in ended.err
    assert len(read(here / "out.jsonl")) == 3


def test_a_directory_that_cannot_be_made_is_a_mistake_of_the_user(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(3))
    ended = plait(*RUN, "--run-dir", "rows.jsonl/r")
    assert ended.code == 1 and "cannot be made" in ended.err


def test_an_output_that_cannot_be_written_leaves_no_directory(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(3))
    (here / "full").symlink_to("/dev/full/x")
    ended = plait(*RUN, "-o", "full", "--run-dir", "r")
    assert ended.code == 1 and "cannot be written" in ended.err
    assert not (here / "r").exists()


def test_a_disk_that_is_full_at_the_end_is_told(
    here: Path, plait: Plait, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(here / "rows.jsonl", topics(3))

    def full(self: batches.Batch) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batches.Batch, "_note", full)
    ended = plait(*RUN, "-o", "out.jsonl")
    assert ended.code == 3 and "No space left on device" in ended.out
    assert len(read(here / "out.jsonl")) == 3


def test_the_resume_command_has_every_option(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(3, boom=[0, 1, 2]))
    more = ("--memory", "20GiB", "--host-memory", "1MiB", "--devices", "cpu,cpu",
            "--max-errors", "0", "--max-rows", "1", "--expect", "draft=40")  # fmt: skip
    ended = plait(*RUN, *more, "--json")
    assert ended.code == 2
    for option in (
        "--memory 20GiB",
        "--host-memory 1MiB",
        "--devices cpu,cpu",
        "--expect draft=40",
    ):
        assert option in ended.json["resume"]


def test_a_smaller_limit_loses_no_line_of_an_ordered_copy(here: Path, plait: Plait) -> None:
    write_rows(here / "rows.jsonl", topics(10))
    ordered = (*RUN, "-o", "out.jsonl", "--keep-order", "--run-dir", "r")
    assert plait(*ordered).code == 0
    assert plait(*ordered, "--limit", "4", "--resume").code == 0
    assert {row["id"] for row in read(here / "out.jsonl")} == {f"r{i}" for i in range(10)}


STUBBORN = """
import asyncio
from plait import tool
@tool(effect="pure", timeout=0.2)
async def poll(topic: str) -> str:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


def test_a_tool_that_ignores_its_end_does_not_keep_the_run(here: Path) -> None:
    (here / "stubborn.py").write_text(STUBBORN)
    write_rows(here / "rows.jsonl", topics(2))
    ended = shell("run", "stubborn.py:poll", "-i", "rows.jsonl", "-o", "out.jsonl",
                  "--backend", "fake")  # fmt: skip
    assert ended.code == 2 and "2 failed" in ended.out
    assert [row["error"]["type"] for row in read(here / "out.jsonl")] == ["ToolTimeout"] * 2


LONG = """
import asyncio
from plait import tool
@tool(effect="pure", timeout=1)
async def long(topic: str) -> str:
    await asyncio.sleep(0.1)
    return topic * 10_000
"""


def test_whoever_reads_slowly_does_not_stop_the_tools(here: Path) -> None:
    (here / "long.py").write_text(LONG)
    write_rows(here / "rows.jsonl", topics(30))
    command = ("run", "long.py:long", "-i", "rows.jsonl", "-o", "-", "--backend", "fake",
               "--max-rows", "4")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "plait", *command],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(3)  # longer than the tool may take
    out, _ = process.communicate(timeout=60)
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert len(rows) == 30 and all(row["status"] == "ok" for row in rows)
