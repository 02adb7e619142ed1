"""What peaks are measured with: as much as is free, and never most of it."""

from __future__ import annotations

import pytest
import torch

from plait.engine.llm import peaks

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("free", "product", "read"),
    [
        (64 << 30, 8192, 2 << 30),
        (2 << 30, 8192, 512 << 20),
        (1 << 30, 4096, 256 << 20),
        (200 << 20, 2048, 50 << 20),
        (64 << 20, 1024, 16 << 20),
        (8 << 20, 1024, 2 << 20),
    ],
)
def test_a_gpu_that_is_nearly_full_is_measured_with_less(
    monkeypatch: pytest.MonkeyPatch, free: int, product: int, read: int
) -> None:
    monkeypatch.setattr(peaks, "free_memory", lambda device: free)
    assert (peaks.product_size(GPU), peaks.read_size(GPU)) == (product, read)


def test_a_cpu_reads_no_more_than_is_larger_than_its_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peaks, "free_memory", lambda device: 64 << 30)
    assert (peaks.product_size(CPU), peaks.read_size(CPU)) == (1024, 256 << 20)
    monkeypatch.setattr(peaks, "free_memory", lambda device: 4 << 20)
    assert peaks.read_size(CPU) == 1 << 20 and peaks.memory_peak(CPU) > 0
