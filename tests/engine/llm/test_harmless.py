"""What breaks harms those concerned: what only helps harms nobody, and who stands by goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

import plait
from plait import Engine, EngineError, ModelError
from plait.dag.errors import PromptError
from plait.dag.sampling import Sampling
from plait.engine.backends.local import LocalBackend
from plait.engine.llm import LLM, calibrate, model
from plait.engine.llm import llm as llm_module
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.intake import Intake
from plait.engine.llm.warming import Warming

Build = Callable[..., LLM]
FOUR = Sampling(max_tokens=4, ignore_eos=True)


class Panic(BaseException):
    """Like that of an extension written in Rust: no `Exception`."""


KINDS = pytest.mark.parametrize("kind", [RuntimeError, Panic, SystemExit])


def breaks_once(
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    kind: type[BaseException] = RuntimeError,
) -> list[str]:
    """Has a method raise when it is called first; what was left of that."""
    left, real = ["boom"], getattr(where, name)

    def broken(*args: object, **more: object) -> object:
        if left:
            raise kind(left.pop())
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


@pytest.mark.parametrize("kind", [RuntimeError, Panic])
@pytest.mark.parametrize("name", ["add", "begin", "met", "end", "release"])
async def test_heads_that_break_are_forgotten_and_the_engine_goes_on(
    engine: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str,
    kind: type[BaseException],
) -> None:  # fmt: skip
    llm = engine()
    left = breaks_once(monkeypatch, Warming, name, kind)
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


@KINDS
async def test_who_waits_meanwhile_is_not_harmed_by_a_broken_step(
    engine: Build, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    llm = engine(max_running=1)
    run = llm._runner.run

    def broken(layout: Layout) -> torch.Tensor:
        if any(9 in chunk.request.prompt for chunk in layout.chunks):
            raise kind("boom")
        return run(layout)

    monkeypatch.setattr(llm._runner, "run", broken)
    calls = [llm.generate([first, 4], FOUR) for first in (3, 9, 5)]
    one, bad, other = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, EngineError) and "boom" in str(bad)
    assert [len(a[0].token_ids) for a in (one, other) if isinstance(a, list)] == [4, 4]
    await settled(llm)


@KINDS
@pytest.mark.parametrize(
    ("what", "name"), [("scheduler", "schedule"), ("scheduler", "commit"), ("decoder", "decode")]
)
async def test_a_part_of_the_step_that_breaks_fails_its_requests_only(
    engine: Build, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], what: str, name: str
) -> None:
    llm = engine()
    where = llm._loop.scheduler if what == "scheduler" else llm._encoder
    left = breaks_once(monkeypatch, where, name, kind)
    with pytest.raises(EngineError, match="boom"):
        await asyncio.wait_for(llm.generate([3, 4], FOUR), 20)
    assert not left
    await settled(llm)


@KINDS
async def test_a_model_that_breaks_as_it_closes_leaves_its_device_to_others(
    engine: Build, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """It breaks in a step, and again while it gives its memory back."""
    llm, other = engine(), engine()
    breaks_once(monkeypatch, llm._loop, "step", kind)
    breaks_once(monkeypatch, llm._runner, "release", kind)
    with pytest.raises(EngineError, match="closed"):
        await asyncio.wait_for(llm.generate([3, 4], FOUR), 20)
    await settled(other)
    llm.close()
    assert llm.closed and llm._thread._worker.thread.is_alive()


@KINDS
def test_a_model_whose_engine_broke_is_loaded_again(
    model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    with Engine(model=model_path("llama")) as engine:
        assert isinstance(engine.backend, LocalBackend)
        llm = engine.backend.llm("default")
        breaks_once(monkeypatch, llm._loop, "step", kind)
        with pytest.raises(EngineError, match="closed"):
            engine.generate([3, 4], max_tokens=4)
        assert llm.closed
        answer = engine.generate([3, 4], max_tokens=4, ignore_eos=True)[0]
        assert len(answer.token_ids) == 4


def test_a_panic_before_the_step_fails_its_row_only(
    model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizers and constraints are Rust, too, and work in the event loop."""

    @plait.llm(max_tokens=2)
    def say(word: str) -> str:
        return word

    with Engine(model=model_path("bytes")) as engine:
        breaks_once(monkeypatch, Intake, "requests", Panic)
        rows = engine.run(say, [{"word": "a"}, {"word": "b"}]).rows
    assert [row.status for row in rows] == ["error", "ok"]
    assert rows[0].error is not None and "Panic: boom" in rows[0].error.message


@KINDS
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (transformers.AutoConfig, "from_pretrained"),
        (transformers.AutoTokenizer, "from_pretrained"),
        (transformers.AutoModelForCausalLM, "from_pretrained"),
        (model, "probe"),
    ],
)
def test_a_model_that_breaks_as_it_is_read_is_named(
    model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, where: object, name: str,
    kind: type[BaseException],
) -> None:  # fmt: skip
    breaks_once(monkeypatch, where, name, kind)
    with pytest.raises(ModelError, match="bytes.*boom"):
        LLM(model_path("bytes"))
    LLM(model_path("bytes")).close()


@KINDS
@pytest.mark.parametrize("name", ["Encoder", "find"])
def test_a_load_that_breaks_fails_who_waits_for_it(
    model_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    kind: type[BaseException],
) -> None:  # fmt: skip
    """Whether the run is about to begin, or under way: its event loop goes on."""

    @plait.llm(max_tokens=2, model="one")
    def one(word: str) -> str:
        return word

    @plait.llm(max_tokens=2, model="other")
    def other(word: str) -> str:
        return word

    @plait.workflow
    def both(word: str) -> list[str]:
        return [one(word), other(word)]

    copy = shutil.copytree(model_path("bytes"), tmp_path / "other")
    models = {"one": model_path("bytes"), "other": copy}
    with Engine(models=models, memory="1GiB") as engine:
        breaks_once(monkeypatch, llm_module, name, kind)
        with pytest.raises(EngineError, match="boom"):
            engine.run(both, [{"word": "a"}])
        assert engine.call(one, word="a")
        breaks_once(monkeypatch, llm_module, name, kind)
        rows = engine.run(both, [{"word": "a"}]).rows
        assert rows[0].error is not None and "boom" in rows[0].error.message
        assert engine.run(both, [{"word": "a"}]).rows[0].ok


@KINDS
async def test_a_model_that_cannot_be_measured_runs(
    engine: Build, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    left = breaks_once(monkeypatch, calibrate, "measure_and_keep", kind)
    await settled(engine(calibrate=True))
    assert not left


@KINDS
@pytest.mark.parametrize("name", ["grammar_from_regex", "get_error", "compute_bitmask"])
async def test_a_constraint_that_breaks_fails_its_request_only(
    engine: Build, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[BaseException]
) -> None:
    llguidance = pytest.importorskip("llguidance")
    llm, ab = engine("bytes"), Sampling(max_tokens=4, regex="ab")
    breaks_once(monkeypatch, llguidance.LLMatcher, name, kind)
    bad, good = await asyncio.gather(
        llm.generate([3, 4], ab), llm.generate([3, 4], FOUR), return_exceptions=True
    )
    assert isinstance(bad, PromptError) and "the output constraint" in str(bad)
    assert isinstance(good, list) and len(good[0].token_ids) == 4
    assert (await llm.generate([3, 4], ab))[0].text == "ab"
    await settled(llm)
