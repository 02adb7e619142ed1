"""What the engine asks of the C allocator of a process that runs models on a CPU.

Left alone, glibc gives the memory of every large tensor back to Linux when it is freed, and the
next step faults it in again, page by page: a tenth of the time of a step. And every decode step
reads all weights from end to end, which with pages of 2 MB is a tenth faster. Elsewhere than on
Linux with glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

KEPT = 256 << 20
"""Bytes of freed memory that may stay with the process."""
LARGE = 32 << 20
"""Tensors from this size on, such as KV pools, have memory of their own, given back when freed."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def prefer_huge_pages() -> None:
    """Have torch ask for pages of 2 MB; before its first allocation. The user's own word counts."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_freed_memory() -> None:
    """Use the memory of one step's tensors again in the next."""
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_MMAP_THRESHOLD, LARGE)
        glibc.mallopt(_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Return what is free to the system: after a model was closed."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError):
        return None
