"""Contenders of the engine benchmark: each answers a workload in its own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .engine_shapes import Setting
from .engine_work import Ask, Workload, working_set

if TYPE_CHECKING:
    from plait.engine.llm.costs import Costs
    from plait.engine.llm.steps import Step

Answers = list[list[int]]


@dataclass(slots=True)
class Result:
    """What one run of a workload gave."""

    seconds: float
    answers: Answers
    counters: dict[str, float] = field(default_factory=dict)


class Plait:
    """This engine: every ask at once, an asyncio client with nothing planned ahead."""

    def __init__(self, setting: Setting, **settings: Any) -> None:
        from plait.engine.llm import LLM

        self._setting = setting
        self._build: Callable[..., LLM] = lambda **more: LLM(
            setting.model, device=setting.device, dtype=setting.dtype, weights=setting.weights(),
            **settings, **more,
        )  # fmt: skip

    def run(self, work: Workload) -> Result:
        memory = None
        if work.kv_share is not None:
            memory = int(working_set(work) * work.kv_share) * self._setting.kv_bytes()
        llm = self._build(kv_memory=memory)
        try:
            return asyncio.run(self._answer(llm, work))
        finally:
            llm.close()

    async def _answer(self, llm: Any, work: Workload) -> Result:
        from plait.dag.sampling import Sampling

        async def one(number: int, ask: Ask) -> list[int]:
            history = list(ask.prompt)
            sampling = Sampling(max_tokens=ask.max_tokens, ignore_eos=True)
            answer: list[int] = []
            for turn in range(work.turns):
                if turn:
                    history = work.next_prompt(number, turn, history)
                done = (await llm.generate(history, sampling))[0].token_ids
                history, answer = [*history, *done], [*answer, *done]
            return answer

        began = now(self._setting)
        answers = await asyncio.gather(*(one(i, a) for i, a in enumerate(work.asks)))
        seconds = now(self._setting) - began
        counters = llm.counters()
        names = (
            "steps computed_tokens prefill_tokens generated_tokens distinct_read total_read "
            "flops bytes_read model_seconds step_seconds preemptions evicted_tokens"
        )
        shown = {n: float(getattr(counters, n)) for n in names.split()}
        shown["hit_rate"] = counters.hit_rate
        if (floor := floor_of(llm.steps(), llm.costs, counters.steps)) is not None:
            shown["floor_seconds"] = floor
        return Result(seconds, answers, shown)


class Generate:
    """Plain `generate` of transformers in padded batches of a size, as asks arrive."""

    def __init__(self, setting: Setting, batch: int = 0) -> None:
        self._setting, self._batch = setting, batch
        self._model = setting.peer()

    def run(self, work: Workload) -> Result:
        began = now(self._setting)
        histories = [list(a.prompt) for a in work.asks]
        answers: Answers = [[] for _ in work.asks]
        size = self._batch or len(histories)
        for turn in range(work.turns):
            if turn:
                histories = [work.next_prompt(i, turn, h) for i, h in enumerate(histories)]
            for at in range(0, len(histories), size):
                part = work.asks[at : at + size]
                done = self._padded(histories[at : at + size], [a.max_tokens for a in part])
                for i, tokens in enumerate(done, at):
                    answers[i] += tokens
                    histories[i] = histories[i] + tokens
        return Result(now(self._setting) - began, answers)

    def _padded(self, prompts: Answers, lengths: list[int]) -> Answers:
        import torch

        width = max(map(len, prompts))
        place = self._setting.device
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=place)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=place)
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max(lengths),
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        rows = out[:, width:].tolist()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]


class GenerateBatch:
    """transformers' own continuous batching."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._model = setting.peer()

    def run(self, work: Workload) -> Result:
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=max(a.max_tokens for a in work.asks),
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
        )
        began = now(self._setting)
        done = self._model.generate_batch(
            inputs=[list(a.prompt) for a in work.asks], generation_config=config
        )
        seconds = now(self._setting) - began
        order = sorted(done, key=lambda name: int(name.rsplit("_", 1)[-1]))
        answers = [list(done[name].generated_tokens) for name in order]
        cut = [a[: ask.max_tokens] for a, ask in zip(answers, work.asks, strict=True)]
        return Result(seconds, cut)


def now(setting: Setting) -> float:
    """The time, in seconds, once the device has done what was asked of it."""
    import torch

    from plait.engine.llm.peaks import wait_for

    wait_for(torch.device(setting.device))
    return time.perf_counter()


def floor_of(steps: Sequence[Step], costs: Costs, done: int) -> float | None:
    """Seconds that a run takes at least: each of its steps reads its bytes and does its products
    at the peaks of the device. 0 where the peaks are not known; None where more steps were done
    than the engine remembers, for then the floor of the whole is not known either."""
    if done > len(steps):
        return None
    if not costs.matmul_peak or not costs.memory_peak:
        return 0.0
    return sum(max(s.flops / costs.matmul_peak, s.bytes_read / costs.memory_peak) for s in steps)


def _in_fp32(setting: Setting) -> Setting:
    return replace(setting, dtype="float32")


CONTENDERS: dict[str, Callable[[Setting], Any]] = {
    "plait": Plait,
    "plait without prefix cache": lambda setting: Plait(setting, prefix_cache=False),
    "plait bf16": lambda setting: Plait(replace(setting, dtype="bfloat16")),
    "plait fp32": lambda setting: Plait(_in_fp32(setting)),
    "generate padded": Generate,
    "generate padded fp32": lambda setting: Generate(_in_fp32(setting)),
    "generate padded by 16": lambda setting: Generate(setting, batch=16),
    "generate one by one": lambda setting: Generate(setting, batch=1),
    "generate_batch": GenerateBatch,
}
