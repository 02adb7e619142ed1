"""Where plans are made, and with whose tokens."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from plait.dag.workflow import as_workflow
from plait.engine.backends.fake import FakeBackend
from plait.engine.backends.local import INLINE_CHARS
from plait.engine.planning import measure_of, planned

from .operators import draft


class Reading(FakeBackend):
    """A backend with the tokenizers of some models."""

    def __init__(self, **per_token: float) -> None:
        super().__init__()
        self.per_token = per_token
        self.read_in: list[threading.Thread] = []

    def characters(self, model: str, sample: str) -> float | None:
        self.read_in.append(threading.current_thread())
        return self.per_token.get(model)


ROWS: list[dict[str, Any]] = [{"topic": "bees"}]


def test_tokens_are_those_of_the_first_model_that_is_loaded() -> None:
    backend = Reading(big=2.0, small=4.0)
    for models, tokens in ((["big", "small"], 50), (["other", "small", "big"], 25)):
        measure = measure_of(backend, models, ROWS)
        assert measure is not None and measure("x" * 100) == tokens
    assert measure_of(backend, ["other"], ROWS) is None and measure_of(backend, [], ROWS) is None
    assert measure_of(FakeBackend(), ["big"], ROWS) is None


@pytest.mark.parametrize(("characters", "inline"), [(100, True), (INLINE_CHARS, False)])
async def test_long_texts_are_not_tokenized_on_the_event_loop(
    characters: int, inline: bool
) -> None:
    backend = Reading(default=4.0)
    rows = [{"topic": "x" * characters}]
    plan = await planned([(as_workflow(draft), rows)], backend=backend)
    assert plan.measure is not None and plan.measure("x" * 100) == 25
    assert [thread is threading.current_thread() for thread in backend.read_in] == [inline]
