"""What a kernel is told, laid out as its C structure."""

from __future__ import annotations

import ctypes


def layout(whole: str, places: str, *between: tuple[str, type]) -> list[tuple[str, type]]:
    """Fields in their order: names of 64-bit whole numbers, others, names of pointers."""
    numbers = [(name, ctypes.c_int64) for name in whole.split()]
    return [*numbers, *between, *((name, ctypes.c_void_p) for name in places.split())]
