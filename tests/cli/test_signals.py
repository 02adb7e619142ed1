"""Real signals to a real process: what was finished stays, and the run can be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Ended, read, shell, topics, write_rows

SLOW = """
import asyncio, time
from plait import tool
@tool(effect="pure")
async def slow(topic: str) -> str:
    await asyncio.sleep({seconds})
    return topic
@tool(effect="pure", timeout=60)
def stuck(topic: str) -> str:
    time.sleep(60)
    return topic
"""
ROWS = 250
Plait = Callable[..., Ended]


@pytest.fixture
def args(here: Path) -> tuple[str, ...]:
    (here / "slow.py").write_text(SLOW.format(seconds=0.1))
    write_rows(here / "rows.jsonl", topics(ROWS))
    return ("run", "slow.py:slow", "-i", "rows.jsonl", "-o", "out.jsonl", "--backend", "fake",
            "--run-dir", "r", "--max-rows", "16")  # fmt: skip


@contextmanager
def started(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a process of its own, once its first rows are on disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "plait", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def rows_written(count: int) -> Callable[[], bool]:
    out = Path("r", "out.jsonl")
    return lambda: out.exists() and out.read_bytes().count(b"\n") >= count


def end(process: subprocess.Popen[bytes]) -> Ended:
    out, err = process.communicate(timeout=30)
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_what_is_under_way(
    here: Path, args: tuple[str, ...], plait: Plait, number: int
) -> None:  # fmt: skip
    with started(*args) as process:
        wait_for(rows_written(20))
        process.send_signal(number)
        ended = end(process)
    assert ended.code == 3, ended.err
    done = read(here / "out.jsonl")
    assert 20 <= len(done) < ROWS and all(row["status"] == "ok" for row in done)
    config = json.loads((here / "r" / "run.json").read_text())
    assert config["sessions"][-1]["status"] == "interrupted"
    assert config["sessions"][-1]["stats"]["rows_ok"] == len(done)
    (command,) = (line for line in ended.out.splitlines() if line.startswith("go on with: "))
    again = plait(*command.removeprefix("go on with: plait ").split(), "--json")
    assert again.code == 0 and again.json["stats"]["rows_ok"] == ROWS - len(done)
    assert sorted(row["id"] for row in read(here / "out.jsonl")) == sorted(
        row["id"] for row in topics(ROWS)
    )


def test_a_second_signal_ends_at_once(here: Path, args: tuple[str, ...]) -> None:
    (here / "slow.py").write_text(SLOW.format(seconds="0.01 if topic < 't3' else 60"))
    with started(*args) as process:
        wait_for(rows_written(20))
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "it did not wait for what was under way"
        process.send_signal(signal.SIGINT)
        ended = end(process)
    assert ended.code == 3 and "--resume" in ended.out
    done = read(here / "r" / "out.jsonl")
    assert done and all(row["status"] == "ok" for row in done), "a cancelled row has a result"
    assert (here / "r" / "report.html").exists()


def test_a_second_signal_does_not_wait_for_a_tool_that_is_stuck(
    here: Path, args: tuple[str, ...]
) -> None:
    with started("run", "slow.py:stuck", *args[2:]) as process:
        wait_for((here / "r" / "run.json").exists)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert end(process).code == 3
    assert read(here / "r" / "out.jsonl") == []


def test_a_killed_run_has_lost_nothing_that_it_had_written(
    here: Path, args: tuple[str, ...], plait: Plait
) -> None:
    with started(*args) as process:
        wait_for(rows_written(50))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = (here / "r" / "out.jsonl").read_bytes().count(b"\n")
    ended = plait(*args, "--resume", "--json")
    assert ended.code == 0 and ended.json["stats"]["rows_ok"] == ROWS - done
    assert len({row["id"] for row in read(here / "out.jsonl")}) == ROWS
    assert len(read(here / "out.jsonl")) == ROWS


def test_a_reader_that_goes_away_stops_the_run(here: Path, args: tuple[str, ...]) -> None:
    to_stdout = tuple("-" if arg == "out.jsonl" else arg for arg in args)
    with started(*to_stdout) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        process.wait(timeout=30)
    assert process.returncode == 3 and "--resume" in err and "Traceback" not in err
    assert 0 < len(read(here / "r" / "out.jsonl")) < ROWS


def test_a_full_disk_stops_the_run(here: Path, args: tuple[str, ...], plait: Plait) -> None:
    ended = shell(*("/dev/full" if arg == "out.jsonl" else arg for arg in args))
    assert ended.code == 3 and "No space left on device" in ended.out and "--resume" in ended.out
    assert len(read(here / "r" / "out.jsonl")) < ROWS
    assert "Traceback" not in ended.err


def test_what_is_printed_without_a_terminal_is_plain(here: Path, args: tuple[str, ...]) -> None:
    ended = shell(*args, "--limit", "40")
    assert ended.code == 0 and "\x1b" not in ended.out + ended.err
    assert ended.err == "", "a short run has no progress lines"
