"""The loop thread behind the synchronous face."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from plait.engine import bridge
from plait.engine.bridge import LoopThread


def test_closing_does_not_wait_for_ever_for_what_ignores_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge, "GRACE", 0.2)
    loop, begun, over = LoopThread(), threading.Event(), threading.Event()

    async def stubborn() -> None:
        begun.set()
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    waiting = threading.Thread(target=lambda: loop.run(stubborn()), daemon=True)
    waiting.start()
    assert begun.wait(5)
    started = time.monotonic()
    loop.close()
    assert time.monotonic() - started < 5
    over.set()
