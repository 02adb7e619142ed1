"""What a device is and how fast it is at best: what utilisation is measured against."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from .dense import ways
from .memory import free_memory

SMALLEST = 1024
"""Rows of the smallest product that a peak is measured with."""
SHARE = 4
"""Of free memory one part in so many is taken to measure."""


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of the fastest large product that can be had."""
    a = torch.randn(size, size, device=device).to(dtype)
    with torch.inference_mode():
        best = time_of(lambda: a @ a, device)
        for way in ways(a):
            best = min(best, time_of(partial(way(a, None), a), device))
    return 2.0 * size**3 / best


def memory_peak(device: torch.device) -> float:
    """Bytes per second of reading memory larger than any cache."""
    size = read_size(device)
    data = torch.ones(size // 4, device=device)
    return size / time_of(lambda: data.sum(), device)


def time_of(
    action: Callable[[], object], device: torch.device, limit: float = 1.0, times: int = 3
) -> float:
    """Seconds of an action that has run once before: the best of a few, while `limit` allows."""
    began = time.perf_counter()
    action()
    wait_for(device)
    seconds: list[float] = []
    while len(seconds) < times:
        start = time.perf_counter()
        action()
        wait_for(device)
        seconds.append(time.perf_counter() - start)
        if time.perf_counter() - began + seconds[-1] > limit:
            break
    return min(seconds)


def contended(seconds: float = 0.05) -> bool:
    """Whether other work takes processors from this process: what is measured then is too slow."""
    a = torch.ones(1024, 1024)
    wall, own = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        a @ a
    share = (time.process_time() - own) / (time.perf_counter() - wall)
    return share < 0.75 * torch.get_num_threads()


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_size(device: torch.device) -> int:
    """Of matrices large enough for the peak, and small enough to take no time: on a GPU the
    largest that leave most of what is free, for a KV pool may have taken nearly all."""
    if device.type != "cuda":
        return SMALLEST
    size, most = 8192, free_memory(device) // SHARE
    while size > SMALLEST and 2 * 4 * size**2 > most:  # a factor and a product, fp32 at worst
        size //= 2
    return size


def read_size(device: torch.device) -> int:
    """Bytes to read for the peak, as far as they are free: on a GPU so many that starting to read
    takes no time beside it."""
    return min(1 << 31 if device.type == "cuda" else 1 << 28, free_memory(device) // SHARE)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
