"""The KV pool: one K and one V tensor per layer, (slots, heads, head size), and page moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...dag.errors import ModelError
from .native.put import put

CACHE_LINE = 64
"""Bytes."""


@dataclass(frozen=True, slots=True)
class KVShape:
    """KV heads and sizes of one layer."""

    heads: int
    key_size: int
    value_size: int

    @property
    def numbers(self) -> int:
        """Numbers per token."""
        return self.heads * (self.key_size + self.value_size)


class Pool:
    """KV of every page, on the device. ModelError when there is not that much memory."""

    def __init__(
        self,
        layers: Sequence[KVShape],
        pages: int,
        page_size: int,
        device: torch.device,
        dtype: torch.dtype,
        host_pages: int = 0,
    ) -> None:
        self.layers = tuple(layers)
        self.pages = pages
        self.host_pages = host_pages
        self.page_size = page_size
        self.device = device
        self.dtype = dtype
        try:
            self._allocate()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            self.release()
            raise ModelError(
                f"not enough memory for {self.size_on_device:,} bytes of KV on {device} and "
                f"{self.size_on_host:,} on the host: lower kv_memory or host_memory"
            ) from error

    def _allocate(self) -> None:
        slots = self.pages * self.page_size
        # Not in inference mode: an inference tensor could not be written outside of it.
        with torch.inference_mode(False):
            self.keys = [self._empty(slots, s.heads, s.key_size) for s in self.layers]
            self.values = [self._empty(slots, s.heads, s.value_size) for s in self.layers]
            slots = self.host_pages * self.page_size
            pinned = slots > 0 and self.device.type == "cuda"
            self._host_tensors = [
                torch.zeros(slots, *t.shape[1:], dtype=self.dtype, pin_memory=pinned)
                for t in self._tensors()
            ]

    @property
    def bytes_per_token(self) -> int:
        return bytes_per_token(self.layers, self.dtype)

    @property
    def size_on_device(self) -> int:
        """Bytes."""
        return self.pages * self.page_size * self.bytes_per_token

    @property
    def size_in_memory(self) -> int:
        """Bytes of the device's memory: on a CPU the host tier lies in the same."""
        return self.size_on_device + (self.size_on_host if self.device.type == "cpu" else 0)

    @property
    def size_on_host(self) -> int:
        """Bytes of the host tier."""
        return self.host_pages * self.page_size * self.bytes_per_token

    def write(
        self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (T, heads, size) at slots; the layer's whole K and V."""
        keys, values = self.keys[layer], self.values[layer]
        put(keys, values, slots, key, value)
        return keys, values

    def copy(self, source: int, target: int, slots: int) -> None:
        """Copy the first slots of one page to another."""
        a, b = source * self.page_size, target * self.page_size
        for tensor in self._tensors():
            tensor[b : b + slots] = tensor[a : a + slots]

    def release(self) -> None:
        """Give the memory back."""
        self.keys, self.values, self._host_tensors = [], [], []

    def offload(self, device: Sequence[int], host: Sequence[int]) -> None:
        """Copy pages to the host tier."""
        self._move(device, host, out=True)

    def restore(self, host: Sequence[int], device: Sequence[int]) -> None:
        """Copy pages back from the host tier."""
        self._move(device, host, out=False)

    def _move(self, device: Sequence[int], host: Sequence[int], out: bool) -> None:
        """By runs, from slice to slice: a gather would copy everything once more, and through
        memory that is not pinned. Nobody waits: steps and moves are done one after another."""
        size = self.page_size
        runs = [(a * size, b * size, n * size) for a, b, n in _together(device, host)]
        for mine, other in zip(self._tensors(), self._host_tensors, strict=True):
            for here, there, slots in runs:
                pages, others = mine[here : here + slots], other[there : there + slots]
                target, source = (others, pages) if out else (pages, others)
                target.copy_(source, non_blocking=True)

    def _tensors(self) -> list[torch.Tensor]:
        return [*self.keys, *self.values]

    def _empty(self, slots: int, heads: int, size: int) -> torch.Tensor:
        """Zeroed memory: a slot that was never written must not hold NaN.

        On a CPU the zeros come from the operating system, page by page as they are first used
        (numpy callocs; torch.zeros would write gigabytes before the first token). They start on a
        cache line: a register's worth that lies across two takes twice as long to read.
        """
        if self.device.type == "cpu":
            size_in_bytes = slots * heads * size * self.dtype.itemsize
            raw = torch.from_numpy(np.zeros(size_in_bytes + CACHE_LINE, dtype=np.uint8))
            first = -raw.data_ptr() % CACHE_LINE
            mine = raw[first : first + size_in_bytes]
            return mine.view(self.dtype).view(slots, heads, size)
        return torch.zeros(slots, heads, size, device=self.device, dtype=self.dtype)


def _together(one: Sequence[int], other: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Pairs of pages as (first, first, count) runs that are neighbours on both sides."""
    start = 0
    for i in range(1, len(one) + 1):
        if i == len(one) or (one[i], other[i]) != (one[i - 1] + 1, other[i - 1] + 1):
            yield one[start], other[start], i - start
            start = i


def bytes_per_token(layers: Sequence[KVShape], dtype: torch.dtype) -> int:
    return sum(s.numbers for s in layers) * dtype.itemsize
