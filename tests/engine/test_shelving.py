"""How a local backend divides memory, and what it takes keeping KV to be worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.engine.backends.local import LocalBackend
from plait.engine.backends.shelving import build_shelf
from plait.engine.backends.warm import Head
from plait.engine.llm.costs import Costs

from .llm import models

LIMIT, HOST = 4_000_000, 500_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save_with_tokenizer(tmp_path_factory.mktemp("bytes"))


def test_on_a_cpu_the_host_tier_is_under_the_limit(model: Path) -> None:
    def need(**options: object) -> int:
        shelf = build_shelf({"default": model}, LIMIT, {"device": "cpu", **options})
        return shelf.sizes()["default"]

    assert need(kv_memory=100_000, host_memory=HOST) == need(kv_memory=100_000) + HOST
    assert need(host_memory=HOST) == need() == LIMIT * 98 // 100, "less KV instead"
    shelf = build_shelf({"default": model}, LIMIT, {"device": "cpu", "host_memory": HOST})
    try:
        with shelf.borrow("default") as llm:
            assert HOST < llm.memory_bytes <= LIMIT
    finally:
        shelf.close()


async def test_keeping_is_worth_what_bringing_back_takes(model: Path) -> None:
    """Where the host tier would have it, not what computing it takes."""
    costs = Costs(token=1.0, offload=1e6, restore=1e6, kv_bytes=256)
    head = Head(("the same " * 10 + "x", "the same " * 10 + "y"), "default")
    lost = []
    for host in (0, HOST):
        backend = LocalBackend({"default": model}, kv_memory=100_000, host_memory=host)
        try:
            backend.llm("default").costs = costs
            kept = await backend.warm(head)
            assert kept is not None and kept.hold is not None
            lost.append(kept.hold.recompute)
            kept.release()
        finally:
            backend.close()
    tokens = int(lost[0])
    assert tokens > 50 and lost[1] == pytest.approx(tokens * 2 * 256 / 1e6)
