"""The README says what is true: its program runs, its links and commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_program_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "answer.py"
    file.write_text(program, encoding="utf-8")
    exec(compile(program, str(file), "exec"), {"__name__": "answer"})
    assert capsys.readouterr().out.strip() == re.findall(r"# (\d+)$", program, re.MULTILINE)[-1]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_commands_exist() -> None:
    shown = set(re.findall(r"^plait (\w+) answer.py", README, re.MULTILINE))
    done = subprocess.run([sys.executable, "-m", "plait", "--help"], capture_output=True, text=True)
    offered = set(re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE))
    assert shown and shown <= offered
