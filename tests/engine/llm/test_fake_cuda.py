"""Steps on tensors that lie elsewhere than on the CPU: nothing of a step may be left there.

Torch's fake tensors know shapes, types and devices, and refuse to mix devices as a GPU would. Where
the kernels' own results are needed (choosing tokens), the test makes some up.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from plait.cache.pages import PageAllocator
from plait.cache.radix import RadixTree
from plait.dag.sampling import Sampling
from plait.engine.llm import forward
from plait.engine.llm.attention import cuda
from plait.engine.llm.attention.plan import Layout
from plait.engine.llm.loop import StepLoop
from plait.engine.llm.pool import KVShape, Pool
from plait.engine.llm.request import Request
from plait.engine.llm.scheduler import Limits, Scheduler
from plait.engine.llm.work import Work

from . import models

GPU = torch.device("meta")
"""Stands for it: a torch without CUDA cannot index what says that it lies on "cuda"."""
PAGE = 4


class FakeGPU:
    """A model and its pool on a GPU that is not there, and a runner that looks at what comes."""

    def __init__(self, family: str, kind: torch.dtype, pages: int = 200) -> None:
        settings = {**models._BASE, **models.FAMILIES[family]}
        config = AutoConfig.for_model(family, **settings)
        self.kind, self.steps = kind, 0
        self.mode = FakeTensorMode()
        with self.mode, GPU:
            self.model = AutoModelForCausalLM.from_config(
                config, dtype=kind, attn_implementation=forward.ATTENTION
            ).eval()
        with self.mode:
            shapes = [KVShape(2, 8, 8)] * config.num_hidden_layers
            self.pool = Pool(shapes, pages, PAGE, GPU, kind)
            self.runner = forward.Runner(forward.FamilyForward(self.model), self.pool)

    def run(self, layout: Layout) -> torch.Tensor:
        with self.mode:
            logits = self.runner.run(layout)
        rows = max(1, sum(chunk.samples for chunk in layout.chunks))
        assert (logits.device, logits.dtype) == (GPU, self.kind)
        assert tuple(logits.shape) == (rows, models.VOCAB)
        self.steps += 1
        return torch.rand(rows, models.VOCAB)


_tensor = torch.tensor


def by_way_of_the_cpu(data: Any, *, device: torch.device | None = None, **more: Any) -> Any:
    """torch.tensor: fake ones cannot be made from numbers elsewhere than on the CPU."""
    made = _tensor(data, **more)
    return made if device is None else made.to(device)


class Silent:
    def decode(self, token_ids: Any) -> str:
        return ""


@pytest.mark.parametrize(
    ("family", "kind", "kernel"),
    [
        ("qwen3", torch.bfloat16, "attend_flash"),
        ("mistral", torch.float16, "attend_flash"),
        ("gpt_oss", torch.bfloat16, "attend_flash"),
        ("llama", torch.float32, "attend_sequences"),
    ],
)
def test_every_step_stays_on_its_device(
    family: str, kind: torch.dtype, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "has_flash", lambda device: True)
    kernels: set[object] = set()
    choose = cuda.choose_kernel

    def seen(*given: Any) -> Any:
        kernels.add(choose(*given))
        return choose(*given)

    monkeypatch.setattr(cuda, "choose_kernel", seen)
    gpu = FakeGPU(family, kind)
    monkeypatch.setattr(torch, "tensor", by_way_of_the_cpu)  # not before: torch remembers its own
    tree = RadixTree(PageAllocator(gpu.pool.pages), PAGE)
    scheduler = Scheduler(tree, Limits(48, 16), gpu.pool)
    loop = StepLoop(scheduler, gpu, Silent(), frozenset(), Work(1, 1, 1, 1, 2), lambda: 0.0)
    rng = random.Random(3)
    head = [rng.randrange(3, 100) for _ in range(30)]
    for number in range(5):
        own = [rng.randrange(3, 100) for _ in range(rng.randrange(1, 40))]
        prompt = (*(head if number % 2 else ()), *own)
        sampling, limit = Sampling(max_tokens=3, ignore_eos=True), len(prompt) + 3
        loop.scheduler.add(Request(number, prompt, sampling, 0, 0.0, limit=limit, expected=limit))
    done = []
    while loop.busy:
        done += loop.step()
    assert [outcome.error for outcome in done] == [None] * 5
    assert gpu.steps > 3 and loop.tally.total_read > loop.tally.distinct_read
    assert kernels == {getattr(cuda, kernel)}


def test_what_lies_elsewhere_is_noticed() -> None:
    gpu = FakeGPU("llama", torch.float32)
    with gpu.mode, pytest.raises(RuntimeError, match="same device"):
        gpu.pool.keys[0].index_select(0, torch.arange(3))
