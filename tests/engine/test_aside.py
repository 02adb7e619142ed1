"""Work beside the event loop is waited for a while, and fails nobody else."""

from __future__ import annotations

import asyncio
import threading

import pytest

from plait.engine.aside import GivenUp, Looked, aside, explaining


async def test_the_event_loop_goes_on_meanwhile() -> None:
    asked, answered = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(given_up: threading.Event) -> str:
        loop.call_soon_threadsafe(asked.set)
        assert answered.wait(30) and not given_up.is_set()
        return "done"

    found = asyncio.create_task(aside(work, 60))
    await asked.wait()
    answered.set()
    assert await found == "done"


async def test_what_it_raises_is_raised() -> None:
    def fails(given_up: threading.Event) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await aside(fails, 60)
    with explaining():
        await aside(fails, 60)


@pytest.mark.parametrize("late", [True, False])
async def test_it_is_told_when_nobody_waits_any_more(late: bool) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(given_up: threading.Event) -> str:
        begun.set()
        try:
            for _ in Looked([1, 2], threading.Event()):
                given_up.wait(30)
            assert list(Looked([1, 2], given_up)) == []
        except GivenUp:
            ended.set()
        return "too late"

    if late:
        assert await aside(work, 0.01) is None
    else:
        waiting = asyncio.create_task(aside(work, 60))
        assert await asyncio.to_thread(begun.wait, 30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await asyncio.to_thread(ended.wait, 30)


def test_a_loop_that_has_closed_is_told_nothing() -> None:
    begun, ends, ended = threading.Event(), threading.Event(), threading.Event()

    def work(given_up: threading.Event) -> str:
        begun.set()
        ends.wait(30)
        ended.set()
        return "too late"

    assert asyncio.run(aside(work, 0.0)) is None
    assert begun.wait(30)
    ends.set()
    assert ended.wait(30)
