"""Importing plait is quick: nothing heavy is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import plait

HEAVY = ("torch", "transformers", "networkx", "aiohttp", "yaml", "numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import plait",
        "from plait import llm, workflow, agent, map, when, loop, system, user",
        "import plait\n@plait.llm\ndef f(a: str) -> str: return f'{a}'\n"
        "@plait.workflow\ndef w(a: str) -> str: return f(f(a))\n"
        "from plait.dag.check import check\nfrom plait.dag.draw import html\n"
        "from plait.dag.plan import make_plan\n"
        "assert not check(w.workflow); html(w.workflow); str(make_plan(w.workflow, [{'a': 'b'}]))",
    ],
    ids=["plait", "names", "check draw and plan"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    show = f"\nimport sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + show], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_sorted_complete_and_there() -> None:
    assert plait.__all__ == sorted(plait.__all__)
    for name in plait.__all__:
        assert getattr(plait, name) is not None
    words = "llm tool workflow agent map when loop gather Engine prompt system user assistant"
    assert {*words.split(), "Message", "WorkflowError"} <= set(plait.__all__)
