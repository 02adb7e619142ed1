"""How much memory there is, how much of it the KV pool gets, and the prefix tree over that."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ...cache.host import HostTier
from ...cache.pages import PageAllocator
from ...cache.radix import RadixTree
from ...dag.errors import ConfigError, ModelError
from . import allocator
from .costs import Costs
from .pool import KVShape, Pool, bytes_per_token
from .worth import worth_of

if TYPE_CHECKING:
    from .model import LoadedModel

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
CPU_SHARE = 0.3
GPU_SHARE = 0.85
CPU_DEFAULT_LIMIT = 4 << 30
USEFUL_CONTEXT = 32_768
"""Tokens of context that a request is given room for, unless more memory is asked for."""


def parse_bytes(size: int | str) -> int:
    """`2GB`, `512 MiB`, `1000000`: bytes (units are powers of 1024)."""
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*([kmgt]?)i?b?\s*", str(size).lower())
    if not found:
        raise ConfigError(f"{size!r} is not a size of memory like '2GB'")
    return int(float(found[1]) * _UNITS[found[2]])


def free_memory(device: torch.device) -> int:
    """Bytes that could be allocated now."""
    if device.type == "cuda":  # what torch keeps of what it freed is free to it, too
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def give_back(device: torch.device) -> None:
    """Return what is free to the system: after a model was closed."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
    else:
        allocator.give_back()


def pool_pages(
    wanted: int | str | None,
    layers: Sequence[KVShape],
    dtype: torch.dtype,
    page_size: int,
    device: torch.device,
    useful_tokens: int,
) -> int:
    """Pages of the pool: as asked, or a share of free memory that could be of use."""
    if page_size < 1:
        raise ConfigError(f"page_size={page_size} must be at least 1")
    page_bytes = bytes_per_token(layers, dtype) * page_size
    free = free_memory(device)
    if wanted is None:
        share = (
            free * GPU_SHARE if device.type == "cuda" else min(free * CPU_SHARE, CPU_DEFAULT_LIMIT)
        )
        size = min(int(share), page_bytes * -(-useful_tokens // page_size))
    else:
        size = parse_bytes(wanted)
    pages = size // page_bytes
    if pages < 2:
        raise ModelError(
            f"KV memory of {size} bytes holds {pages} pages of {page_bytes} bytes: give more"
        )
    if size > free:
        raise ModelError(f"KV memory of {size} bytes was asked for, {free} bytes are free")
    return pages


def make_pool(
    loaded: LoadedModel,
    kv_memory: int | str | None,
    host_memory: int | str,
    page_size: int,
    running: int,
) -> Pool:
    """The KV pool of a model, for so many requests at once, with its host tier."""
    useful = running * min(loaded.max_context, USEFUL_CONTEXT)
    place, kind = loaded.device, loaded.dtype
    pages = pool_pages(kv_memory, loaded.layers, kind, page_size, place, useful)
    page_bytes = bytes_per_token(loaded.layers, kind) * page_size
    host_pages = parse_bytes(host_memory) // page_bytes
    return Pool(loaded.layers, pages, page_size, place, kind, host_pages)


def make_tree(pool: Pool, costs: Callable[[], Costs]) -> RadixTree:
    """The prefix tree over a pool's pages, with the host tier that the pool has room for."""
    host = None
    if pool.host_pages:
        host = HostTier(PageAllocator(pool.host_pages), pool, worth_of(costs))
    return RadixTree(PageAllocator(pool.pages), pool.page_size, host=host)
