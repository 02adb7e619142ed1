"""The command line as its users run it: in this process where that is enough, else in its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plait.cli import main

WORKFLOW = """
import asyncio
from typing import Any
import plait
from plait import llm, tool, workflow

@llm
def draft(topic: str) -> str:
    return f"about {topic}"

@tool(effect="pure", timeout=5)
def shout(text: str) -> str:
    if "boom" in text:
        raise ValueError("no boom today")
    return text.upper()

@workflow
def report(topic: str, times: int = 1) -> str:
    return shout(draft(topic))
"""


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory with a workflow file, wf.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wf.py").write_text(WORKFLOW)
    return tmp_path


@pytest.fixture
def plait(here: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """Run a command in this process."""

    def run(*args: str) -> Ended:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, out.decode(), err.decode())

    return run


def shell(*args: str, stdin: bytes | None = None) -> Ended:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "plait", *args], input=stdin, capture_output=True, timeout=60
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def topics(count: int, boom: Iterable[int] = ()) -> list[dict[str, Any]]:
    bad = set(boom)
    return [{"id": f"r{i}", "topic": "boom" if i in bad else f"t{i}"} for i in range(count)]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
