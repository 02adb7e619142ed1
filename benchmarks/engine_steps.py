"""Single steps of the engine against what the machine can do: decode, prefill, and the overhead."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from .engine_shapes import Setting
from .engine_work import VOCAB


class Steps:
    """One engine's step loop, driven by hand, on the thread where it always runs."""

    def __init__(self, setting: Setting, prefix_cache: bool = True) -> None:
        from plait.engine.llm import LLM

        self._llm = llm = LLM(
            setting.model, device=setting.device, dtype=setting.dtype, weights=setting.weights(),
            prefix_cache=prefix_cache,
        )  # fmt: skip
        self.kv_tokens = llm.kv_tokens
        self.on_thread = llm._thread.call
        self._loop = llm._loop
        self._runner: Any = llm._loop._runner
        self._count = 0

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._llm.close()

    def ask(self, prompt: list[int], max_tokens: int) -> None:
        from plait.dag.sampling import Sampling
        from plait.engine.llm.request import Request

        self._count += 1
        length = len(prompt) + max_tokens
        sampling = Sampling(max_tokens=max_tokens, ignore_eos=True)
        self._loop.scheduler.add(
            Request(self._count, tuple(prompt), sampling, 0, 0.0, limit=length, expected=length)
        )

    def step(self) -> tuple[float, float, float]:
        """Seconds, FLOPs and bytes of one step."""
        tally = self._loop.tally
        flops, read = tally.flops, tally.bytes_read
        began = time.perf_counter()
        self._loop.step()
        return time.perf_counter() - began, tally.flops - flops, tally.bytes_read - read

    def decode(
        self, rows: int, shared: int, own: int = 1, steps: int = 60
    ) -> tuple[float, float, float]:
        """Median seconds, and FLOPs and bytes, of a decode step of requests that have `shared`
        tokens of context together and `own` tokens each."""
        rng = random.Random(1)
        head = [rng.randrange(10, VOCAB) for _ in range(shared)]
        for i in range(rows):
            tail = [rng.randrange(10, VOCAB) for _ in range(own - 1)]
            self.ask([*head, 10 + i, *tail], answer_length(rows, shared, own, steps))
        scheduler = self._loop.scheduler
        while scheduler.waiting or any(r.prefilling for r in scheduler.running):
            self._loop.step()
        taken = [self.step() for _ in range(steps)][8:]
        assert len(scheduler.running) == rows, "every step is to have them all"
        self._loop.abort(list(scheduler.running))
        return statistics.median(t[0] for t in taken), taken[0][1], taken[0][2]

    def prefill(self, tokens: int, times: int = 7) -> tuple[float, float, float]:
        """Median seconds, and FLOPs and bytes, of a step that computes one prompt."""
        rng = random.Random(2)
        taken = []
        for _ in range(times + 2):
            self.ask([rng.randrange(10, VOCAB) for _ in range(tokens)], 1)
            taken.append(self.step())
        return statistics.median(t[0] for t in taken[2:]), taken[0][1], taken[0][2]

    def overhead(self, rows: int) -> float:
        """Median seconds of a decode step whose forward takes no time."""
        import torch

        logits = torch.randn(rows, self._llm.vocab_size, device=self._llm.device)
        self._runner.forward = lambda step, ids, positions, keep: logits[: len(keep)]
        return self.decode(rows, 512, steps=100)[0]


def answer_length(rows: int, shared: int, own: int, steps: int) -> int:
    """Tokens for each request that decodes: while steps are timed, and until all have begun."""
    return steps + 20 + (shared + rows * own) // 1024


def measure_steps(setting: Setting) -> dict[str, Any]:
    """Peaks of the machine, and the engine's steps beside them."""
    import torch

    from plait.engine.llm.peaks import matmul_peak, memory_peak

    cpu = torch.device("cpu")

    def peaks() -> tuple[float, float, float]:
        square = torch.randn(2048, 2048)
        plain = min(_seconds(lambda: square @ square) for _ in range(3))
        packed = max(matmul_peak(cpu, torch.float32) for _ in range(3))
        return plain, packed, max(memory_peak(cpu) for _ in range(3))

    with Steps(setting) as steps, Steps(setting, prefix_cache=False) as alone:
        before = steps.on_thread(peaks)
        decode, flops, read = steps.on_thread(lambda: steps.decode(32, 512))
        prefills = {tokens: measure_prefill(alone, tokens) for tokens in (512, 1024, 2048)}
        overheads = {rows: measure_overhead(setting, rows) for rows in (1, 32, 128)}
        after = steps.on_thread(peaks)
    plain, peak, memory = (f(a, b) for f, a, b in zip((min, max, max), before, after, strict=True))
    found: dict[str, Any] = {
        "matmul_peak": peak,
        "torch_matmul": 2.0 * 2048**3 / plain,
        "memory_peak": memory,
    }
    for name, rate in (("decode", found["torch_matmul"]), ("decode_best", peak)):
        roof = max(flops / rate, read / memory)
        found[name] = {"seconds": decode, "roofline": roof, "share": roof / decode}
    for tokens, (seconds, work, _) in prefills.items():
        found[f"prefill_{tokens}"] = {
            "seconds": seconds,
            "flops_per_second": work / seconds,
            "share": work / seconds / found["torch_matmul"],
            "share_best": work / seconds / peak,
        }
    return found | {f"overhead_{rows}": {"seconds": s} for rows, s in overheads.items()}


def measure_prefill(steps: Steps, tokens: int) -> tuple[float, float, float]:
    """Seconds, FLOPs and bytes of a step that computes one prompt."""
    return steps.on_thread(lambda: steps.prefill(tokens))


def measure_overhead(setting: Setting, rows: int) -> float:
    """Seconds of a step but for its forward, in an engine of its own."""
    with Steps(setting) as steps:
        return steps.on_thread(lambda: steps.overhead(rows))


def _seconds(action: Any) -> float:
    action()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
