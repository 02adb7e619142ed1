"""What breaks harms those concerned: what only helps harms nobody, and who stands by goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from plait import Engine, EngineError
from plait.dag.sampling import Sampling
from plait.engine.backends.local import LocalBackend
from plait.engine.llm import LLM
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.warming import Warming

Build = Callable[..., LLM]
FOUR = Sampling(max_tokens=4, ignore_eos=True)


def breaks_once(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> list[str]:
    """Has a method raise when it is called first; what was left of that."""
    left, real = ["boom"], getattr(where, name)

    def broken(*args: object, **more: object) -> object:
        if left:
            raise RuntimeError(left.pop())
        return real(*args, **more)

    monkeypatch.setattr(where, name, broken)
    return left


async def settled(llm: LLM) -> None:
    """The engine answers, and nothing is under way after."""
    answers = await asyncio.wait_for(llm.generate([3, 4], FOUR), 20)
    assert len(answers[0].token_ids) == 4 and not llm.closed
    while llm._thread.call(lambda: llm._loop.busy or llm._serving.warming.waiting):
        await asyncio.sleep(0.001)
    counters = llm.counters()
    assert (counters.running, counters.waiting, counters.held_pages) == (0, 0, 0)


@pytest.mark.parametrize("name", ["add", "begin", "met", "end", "release"])
async def test_heads_that_break_are_forgotten_and_the_engine_goes_on(
    engine: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    llm = engine()
    left = breaks_once(monkeypatch, Warming, name)
    first = llm.warm([5, 6, 7, 8] * 20, llm.now() + 100)
    await settled(llm)
    llm.release(first)
    await settled(llm)
    assert not left and "heads of prompts are forgotten" in caplog.text
    again = llm.warm([6, 7, 8, 9] * 20, llm.now() + 100)
    await settled(llm)
    assert again.computed == 80, "later ones are computed as ever"
    llm.release(again)
    await settled(llm)
    assert llm.counters().pins == (name == "release"), "that one's pin stays until its deadline"


async def test_a_wish_that_breaks_harms_nobody(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine()
    left = breaks_once(monkeypatch, llm._tree, "let_go")
    llm.let_go([3, 4], 0)
    await settled(llm)
    assert not left


async def test_who_waits_meanwhile_is_not_harmed_by_a_broken_step(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(max_running=1)
    run = llm._runner.run

    def broken(layout: Layout) -> torch.Tensor:
        if any(9 in chunk.request.prompt for chunk in layout.chunks):
            raise RuntimeError("boom")
        return run(layout)

    monkeypatch.setattr(llm._runner, "run", broken)
    calls = [llm.generate([first, 4], FOUR) for first in (3, 9, 5)]
    one, bad, other = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, EngineError) and "boom" in str(bad)
    assert [len(a[0].token_ids) for a in (one, other) if isinstance(a, list)] == [4, 4]
    await settled(llm)


def test_a_model_whose_engine_broke_is_loaded_again(
    model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(model=model_path("llama")) as engine:
        assert isinstance(engine.backend, LocalBackend)
        llm = engine.backend.llm("default")
        breaks_once(monkeypatch, llm._loop, "step")
        with pytest.raises(EngineError, match="closed"):
            engine.generate([3, 4], max_tokens=4)
        assert llm.closed
        answer = engine.generate([3, 4], max_tokens=4, ignore_eos=True)[0]
        assert len(answer.token_ids) == 4
