"""The example in docs/tools.md does what the guide says it does."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "tools.md"


def test_the_example_prints_what_stands_below_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    text = GUIDE.read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (expected,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "guide.py"
    path.write_text(program)
    exec(compile(program, str(path), "exec"), {"__name__": "guide"})
    assert capsys.readouterr().out == expected
