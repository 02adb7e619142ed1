"""Measuring what a model costs on this device: a few seconds once, then read from disk.

Prefill time is fitted over tokens and context, decode time over requests and KV tokens read, both
by least squares over the engine's own steps. The peaks are the fastest product and the fastest
read that torch does here, whichever way: they are what utilisation is measured against.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ...cache.pages import PageAllocator
from ...cache.radix import RadixTree
from ...dag.sampling import Sampling
from .attention.plan import lay_out
from .costs import Costs
from .dense import Dense
from .forward import Runner
from .model import LoadedModel
from .pool import Pool, bytes_per_token
from .request import Chunk, Request
from .scheduler import Limits, Scheduler

PREFILLS = ((64, 0), (256, 0), (512, 0), (256, 512), (64, 1024))
"""(tokens, context) of the prefill steps timed."""
DECODES = ((1, 64), (1, 1024), (8, 64), (8, 512), (32, 64), (32, 512))
"""(requests, context of each) of the decode steps timed."""
PAGE_SIZE = 16


def cache_file(loaded: LoadedModel) -> Path:
    """Where the costs of this model on this device and version are kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    marks = (
        loaded.name,
        loaded.body_parameters,
        loaded.head_parameters,
        len(loaded.layers),
        str(loaded.dtype),
        device_name(loaded.device),
        torch.__version__,
        torch.get_num_threads(),
        "1",
    )
    name = hashlib.sha256(repr(marks).encode()).hexdigest()[:24]
    return base / "plait" / "calibration" / f"{name}.json"


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def read_costs(loaded: LoadedModel) -> Costs | None:
    """Costs measured before, if they were."""
    try:
        return Costs(**json.loads(cache_file(loaded).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def measure(loaded: LoadedModel, save: bool = True) -> Costs:
    """Time steps of the model and fit them. Uses a small pool of its own."""
    costs = Costs(kv_bytes=bytes_per_token(loaded.layers, loaded.dtype))
    steps = _Steps(loaded)
    longest = loaded.max_context - 2
    prefills = [(t, c) for t, c in PREFILLS if t + c <= longest]
    decodes = [(n, c) for n, c in DECODES if c <= longest]
    prefill = _fit(
        [[1.0, t, t * (c + t / 2)] for t, c in prefills],
        [steps.seconds(1, t, c) for t, c in prefills],
    )
    decode = _fit(
        [[1.0, n, n * c] for n, c in decodes], [steps.seconds(n, 1, c) for n, c in decodes]
    )
    offload, restore = steps.copy_rates()
    costs = replace(
        costs,
        step=decode[0],
        token=prefill[1],
        token_context=prefill[2],
        decode_row=decode[1],
        kv_token=decode[2],
        offload=offload,
        restore=restore,
        matmul_peak=matmul_peak(loaded.device, loaded.dtype),
        memory_peak=memory_peak(loaded.device),
        load=loaded.seconds,
    )
    if save:
        file = cache_file(loaded)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(costs), indent=1))
    return costs


def describe(costs: Costs) -> list[str]:
    """Costs in words, for `plait doctor`."""
    return [
        f"peaks: {costs.matmul_peak / 1e9:.0f} GFLOP/s, {costs.memory_peak / 1e9:.0f} GB/s read",
        f"prefill of 512 tokens: {costs.prefill_seconds(512) * 1e3:.1f} ms, behind 2048 cached "
        f"ones {costs.prefill_seconds(512, 2048) * 1e3:.1f} ms",
        f"decode step: {costs.decode_seconds(1, 512) * 1e3:.1f} ms for one request, "
        f"{costs.decode_seconds(32, 32 * 512) * 1e3:.1f} ms for 32, 512 tokens of context each",
        f"KV: {costs.kv_bytes} bytes a token, to the host {costs.offload / 1e9:.1f} GB/s and back "
        f"{costs.restore / 1e9:.1f} GB/s; loading took {costs.load:.1f} s",
    ]


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of the fastest large product: torch's own, or by packed weights."""
    a = torch.randn(size, size, device=device).to(dtype)
    layer = Dense(a, None)
    with torch.inference_mode():
        best = min(_time(lambda: a @ a, device), _time(lambda: layer(a), device))
    return 2.0 * size**3 / best


def memory_peak(device: torch.device, size: int = 1 << 28) -> float:
    """Bytes per second of reading memory larger than any cache."""
    data = torch.ones(size // 4, device=device)
    return size / _time(lambda: data.sum(), device)


class _Steps:
    """Synthetic steps through the engine's own plan and forward."""

    def __init__(self, loaded: LoadedModel) -> None:
        tokens = 32 * 640 + 2048
        self._loaded = loaded
        self._pool = Pool(
            loaded.layers,
            tokens // PAGE_SIZE,
            PAGE_SIZE,
            loaded.device,
            loaded.dtype,
            host_pages=64,
        )
        self._runner = Runner(loaded.forward, self._pool)

    def seconds(self, rows: int, count: int, context: int) -> float:
        """One step of `rows` requests that each compute `count` tokens behind `context` others."""
        tree = RadixTree(PageAllocator(self._pool.pages), PAGE_SIZE)
        scheduler = Scheduler(tree, Limits(1 << 30, rows, prefix_cache=False), self._pool)
        vocab = self._loaded.vocab_size
        for number in range(rows):
            tokens = tuple((number * 7 + i) % vocab for i in range(context + count))
            length = len(tokens) + 1
            scheduler.add(
                Request(number, tokens, Sampling(), 0, 0.0, limit=length, expected=length)
            )
        scheduler.schedule(0.0)
        chunks = [Chunk(r, context, count) for r in scheduler.running]
        layout = lay_out(chunks, tree.version, PAGE_SIZE)
        return _time(lambda: self._runner.run(layout), self._loaded.device)

    def copy_rates(self) -> tuple[float, float]:
        """Bytes per second to the host tier and back."""
        pages = list(range(64))
        size = 64 * PAGE_SIZE * self._pool.bytes_per_token
        device = self._loaded.device
        out = _time(lambda: self._pool.offload(pages, pages), device)
        back = _time(lambda: self._pool.restore(pages, pages), device)
        return size / out, size / back


def _time(action: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """Median seconds of an action that has run once before."""
    action()
    seconds = []
    for _ in range(times):
        _wait(device)
        began = time.perf_counter()
        action()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _fit(rows: list[list[float]], seconds: list[float]) -> list[float]:
    """Least squares with no negative factor: a negative one is dropped and the rest fitted again.

    Rows are weighted by 1 / seconds, so that short steps count as much as long ones.
    """
    kept = list(range(len(rows[0])))
    weights = torch.tensor([1.0 / s for s in seconds], dtype=torch.float64)
    wanted = torch.ones(len(seconds), 1, dtype=torch.float64)
    while kept:
        table = torch.tensor([[r[k] for k in kept] for r in rows], dtype=torch.float64)
        found = torch.linalg.lstsq(table * weights[:, None], wanted).solution[:, 0].tolist()
        if min(found) >= 0:
            break
        kept.pop(found.index(min(found)))
    return [found[kept.index(k)] if k in kept else 0.0 for k in range(len(rows[0]))]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
