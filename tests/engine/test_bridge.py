"""The loop thread behind the synchronous face."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress

import pytest

import plait
from plait import Engine
from plait.engine import bridge
from plait.engine.backends.fake import FakeBackend
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


def ends_with(action: Callable[[], object]) -> BaseException | None:
    """What an action raises, which must be over soon."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    return raised.pop() if raised else None


def test_closing_from_a_coroutine_of_its_own_ends_it() -> None:
    loop, threads = LoopThread(), []

    async def closes() -> None:
        threads.append(threading.current_thread())
        loop.close()
        loop.close()
        await asyncio.sleep(60)

    assert isinstance(ends_with(lambda: loop.run(closes())), CancelledError)
    threads[0].join(5)
    assert not threads[0].is_alive()
    with pytest.raises(plait.EngineError, match="closed"):
        loop.loop()


def test_a_tool_may_close_the_engine_it_runs_in() -> None:
    class Backend(FakeBackend):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    backend = Backend()
    engine = Engine(backend=backend)

    @plait.tool
    async def stop(text: str) -> str:
        engine.close()
        await asyncio.sleep(60)
        return text

    assert isinstance(ends_with(lambda: engine.call(stop, text="now")), CancelledError)
    assert backend.closed == 1
