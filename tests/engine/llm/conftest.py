from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.engine.llm import LLM

from . import models


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves a family's tiny model once."""
    saved: dict[str, Path] = {}

    def path(family: str) -> Path:
        if family not in saved:
            place = tmp_path_factory.mktemp(family)
            if family == "bytes":
                saved[family] = models.save_with_tokenizer(place)
            else:
                saved[family] = models.save(family, place)
        return saved[family]

    return path


@pytest.fixture
def engine(model_path: Callable[[str], Path]) -> Iterator[Callable[..., LLM]]:
    """Opens engines and closes them after the test."""
    opened: list[LLM] = []

    def build(family: str = "llama", **settings: Any) -> LLM:
        llm = LLM(model_path(family), **settings)
        opened.append(llm)
        return llm

    yield build
    for llm in opened:
        if not llm._thread._closed:
            assert llm._thread.call(partial(balanced, llm))
        llm.close()


def balanced(llm: LLM) -> bool:
    """Whether every page is free, cached, held, or a running request's own."""
    tree, running = llm._tree, llm._loop.scheduler.running
    own = sum(len(request.pages) for request in running)
    return tree.allocator.free + tree.cached_pages + tree.held_pages + own == tree.allocator.total
