"""Contenders of the engine benchmark: each answers a workload in its own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .engine_work import Ask, Workload, working_set

Answers = list[list[int]]


@dataclass(slots=True)
class Result:
    """What one run of a workload gave."""

    seconds: float
    answers: Answers
    counters: dict[str, float] = field(default_factory=dict)


class Plait:
    """This engine: every ask at once, an asyncio client with nothing planned ahead."""

    def __init__(self, model: Path, dtype: str = "float32", **settings: Any) -> None:
        from plait.engine.llm import LLM

        self._build: Callable[..., LLM] = lambda **more: LLM(
            model, device="cpu", dtype=dtype, **settings, **more
        )

    def run(self, work: Workload) -> Result:
        memory = None
        if work.kv_share is not None:
            memory = int(working_set(work) * work.kv_share) * 8192
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

        began = time.perf_counter()
        answers = await asyncio.gather(*(one(i, a) for i, a in enumerate(work.asks)))
        seconds = time.perf_counter() - began
        counters = llm.counters()
        names = (
            "steps computed_tokens prefill_tokens generated_tokens distinct_read total_read "
            "flops bytes_read model_seconds step_seconds preemptions evicted_tokens"
        )
        shown = {n: float(getattr(counters, n)) for n in names.split()}
        return Result(seconds, answers, {**shown, "hit_rate": counters.hit_rate})


class Generate:
    """Plain `generate` of transformers in padded batches of a size, as asks arrive."""

    def __init__(self, model: Path, dtype: str = "float32", batch: int = 0) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self._model.eval()
        self._batch = batch

    def run(self, work: Workload) -> Result:
        began = time.perf_counter()
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
        return Result(time.perf_counter() - began, answers)

    def _padded(self, prompts: Answers, lengths: list[int]) -> Answers:
        import torch

        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
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

    def __init__(self, model: Path, dtype: str = "float32") -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
        self._model.eval()

    def run(self, work: Workload) -> Result:
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=max(a.max_tokens for a in work.asks),
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
        )
        began = time.perf_counter()
        done = self._model.generate_batch(
            inputs=[list(a.prompt) for a in work.asks], generation_config=config
        )
        seconds = time.perf_counter() - began
        order = sorted(done, key=lambda name: int(name.rsplit("_", 1)[-1]))
        answers = [list(done[name].generated_tokens) for name in order]
        cut = [a[: ask.max_tokens] for a, ask in zip(answers, work.asks, strict=True)]
        return Result(seconds, cut)


CONTENDERS: dict[str, Callable[[Path], Any]] = {
    "plait": Plait,
    "plait without prefix cache": lambda model: Plait(model, prefix_cache=False),
    "plait bf16": lambda model: Plait(model, "bfloat16"),
    "generate padded": Generate,
    "generate padded by 16": lambda model: Generate(model, batch=16),
    "generate one by one": lambda model: Generate(model, batch=1),
    "generate_batch": GenerateBatch,
}
