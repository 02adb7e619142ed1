"""An engine whose model answers with its prompt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plait import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(backend="fake") as engine:
        yield engine
