"""Steps of a model of any shape beside the physical floor of its device.

A step takes at least as long as its weights and the distinct KV it reads take to be read, and as
its products take, at the fastest rates measured on the device in the same process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .engine_shapes import Setting
from .engine_steps import Steps, answer_length, measure_overhead, measure_prefill

Point = tuple[int, int, int]
"""Decoding requests, tokens of context that all share, tokens of context of their own."""
DECODES: tuple[Point, ...] = ((1, 0, 1024), (32, 0, 4096), (32, 3584, 512), (256, 0, 1024))
PREFILLS = (512, 1024, 2048)
STEPS = 40


def measure_roofs(
    setting: Setting, decodes: Sequence[Point] = DECODES, prefills: Sequence[int] = PREFILLS
) -> dict[str, Any]:
    """Peaks, and seconds beside floors; a step that KV memory has no room for is left out."""
    import torch

    from plait.engine.llm.peaks import matmul_peak, memory_peak, product_size

    device, kind = torch.device(setting.device), getattr(torch, setting.dtype)

    def peaks() -> tuple[float, float]:
        size = product_size(device)
        return (
            max(matmul_peak(device, kind, size) for _ in range(3)),
            max(memory_peak(device) for _ in range(3)),
        )

    rows: list[dict[str, Any]] = []
    with Steps(setting) as steps:
        matmul, memory = steps.on_thread(peaks)
        for requests, shared, own in decodes:
            each = own + answer_length(requests, shared, own, STEPS)
            if shared + requests * each <= steps.kv_tokens:
                took, flops, read = _decode(steps, requests, shared, own)
                says = f"decode {requests} x {own}" + (f" behind {shared} shared" if shared else "")
                rows.append(_beside(says, requests, took, flops / matmul, read / memory))
    with Steps(setting, prefix_cache=False) as steps:  # one model at a time: memory is short
        for tokens in prefills:
            took, flops, read = measure_prefill(steps, tokens)
            rows.append(_beside(f"prefill {tokens}", tokens, took, flops / matmul, read / memory))
    overheads = {str(n): measure_overhead(setting, n) for n in (1, 32, 128)}
    return {"matmul_peak": matmul, "memory_peak": memory, "rows": rows, "overheads": overheads}


def _beside(
    says: str, tokens: int, seconds: float, products: float, reading: float
) -> dict[str, Any]:
    """A step of so many tokens and its floor, in seconds."""
    floor = max(products, reading)
    return {
        "says": says, "tokens": tokens, "seconds": seconds, "floor": floor,
        "share": floor / seconds, "bound": "products" if products > reading else "reading",
    }  # fmt: skip


def _decode(steps: Steps, requests: int, shared: int, own: int) -> tuple[float, float, float]:
    return steps.on_thread(lambda: steps.decode(requests, shared, own, STEPS))
