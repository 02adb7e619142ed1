"""One call of an engine, as tests make it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from plait.dag.sampling import Sampling
from plait.engine.generation import Generation
from plait.engine.llm import LLM
from plait.engine.llm.attention.plan import Layout

Build = Callable[..., LLM]

HOT = Sampling(max_tokens=20, temperature=1.0, ignore_eos=True)


def slowly(llm: LLM, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.01) -> None:
    """Steps that take a while: what a test interrupts is still under way, whatever the load."""
    run = llm._runner.run

    def waits(layout: Layout) -> torch.Tensor:
        time.sleep(seconds)
        return run(layout)

    monkeypatch.setattr(llm._runner, "run", waits)


async def one(llm: LLM, prompt: list[int], sampling: Sampling, **more: object) -> Generation:
    return (await llm.generate(prompt, sampling, **more))[0]  # type: ignore[arg-type]
