"""Kernels of our own for CPUs, in C, where torch has nothing as fast."""

from .library import Native, native

__all__ = ["Native", "native"]
