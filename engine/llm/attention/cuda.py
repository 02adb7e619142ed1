"""Attention on a CUDA device, in plain torch. Never run on a GPU so far."""

from __future__ import annotations

from .cpu import CpuAttention


class CudaAttention(CpuAttention):
    """The same calls, on the device."""
