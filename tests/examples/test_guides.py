"""The programs in the guides do what stands below them, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["workflows.md", "testing.md"])
def test_a_guide_prints_what_stands_below_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / name).read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (expected,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "guide.py"
    path.write_text(program, encoding="utf-8")
    exec(compile(program, str(path), "exec"), {"__name__": "guide"})
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("guide", sorted(DOCS.glob("*.md")), ids=lambda p: p.name)
def test_links_of_guides_lead_somewhere(guide: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", guide.read_text("utf-8")):
        assert (DOCS / link).exists(), link
