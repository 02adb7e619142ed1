"""Steps that calibration times: whole steps of the engine, behind prompts nobody has computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from plait.dag.errors import EngineError
from plait.engine.llm import LLM
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.feigned import DECODED, Feigned
from plait.engine.llm.forward import Runner

Spans = list[tuple[int, int]]


@pytest.fixture
def llm(engine: Callable[..., LLM]) -> LLM:
    return engine(calibrate=False)


@pytest.fixture
def computed(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> list[Spans]:
    """(start, count) of the chunks of every step that was really computed."""
    steps: list[Spans] = []
    run = Runner.run

    def seen(self: Runner, layout: Layout) -> torch.Tensor:
        steps.append([(chunk.start, chunk.count) for chunk in layout.chunks])
        return run(self, layout)

    monkeypatch.setattr(Runner, "run", seen)
    return steps


@pytest.fixture
def feigned(llm: LLM) -> Iterator[Feigned]:
    """All pages are free again, whatever was timed."""
    assert llm._loaded is not None
    free = llm._tree.allocator
    yield Feigned(llm._loaded, llm._runner, free, llm._work)
    assert free.free == free.total


def test_only_decoding_is_computed(feigned: Feigned, computed: list[Spans]) -> None:
    seconds = feigned.decode(rows=5, context=24, steps=DECODED)
    assert len(seconds) == DECODED and min(seconds) > 0
    assert computed == [[(22 + i, 1)] * 5 for i in range(DECODED)]


def test_no_more_steps_than_there_is_room_for(feigned: Feigned, computed: list[Spans]) -> None:
    assert len(feigned.decode(rows=2, context=1, steps=1)) == 1
    assert len(feigned.decode(rows=2, context=1, steps=99)) == DECODED == len(computed) - 1


@pytest.mark.parametrize("context", [0, 16, 24])
def test_prompts_are_computed_in_one_step_behind_what_is_cached(
    feigned: Feigned, computed: list[Spans], context: int
) -> None:
    for _ in range(2):  # no prompt is found in the cache from before
        assert feigned.prefill(rows=3, tokens=20, context=context) > 0
    assert computed == [[(context, 20)] * 3] * 2


def test_more_prompts_than_the_model_has_tokens(feigned: Feigned, computed: list[Spans]) -> None:
    rows = feigned._vocab_size + 3
    feigned.decode(rows, 6, 1)
    assert computed == [[(4, 1)] * rows]


def test_a_step_that_breaks_says_so_and_leaves_nothing(
    feigned: Feigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(Runner, "run", broken)
    with pytest.raises(EngineError, match="no such operator"):
        feigned.decode(2, 8, 1)
    with pytest.raises(EngineError, match="no such operator"):
        feigned.prefill(2, 8, 8)
