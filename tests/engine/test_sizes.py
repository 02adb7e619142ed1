"""How large values are is counted in one way, by runs and by rehearsals: as prompts show them."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from plait.dag.imagined import Imagination
from plait.dag.template import Slot, in_prompt
from plait.engine.run import Stats


class Paper(BaseModel):
    title: str
    pages: int = 3


class Kind(Enum):
    SHORT = "short"


VALUES = ["text", 7, 1.5, True, None, ["a", 2], {"a": "b"}, Paper(title="A paper"), Kind.SHORT]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_has_the_length_of_its_slot(value: Any) -> None:
    shown = Slot("value").render({"value": value})
    assert in_prompt(value) == shown
    imagination, stats = Imagination(), Stats()
    assert imagination.length(imagination.given(value)) == len(shown)
    for times in range(1, 6):
        stats.result("look", "x" * (10 * times * len(shown)), dict.fromkeys("abcde"[:times], value))
    seen = stats.nodes["look"].seen
    assert seen.growth.at(3 * len(shown)) == pytest.approx(30 * len(shown))
