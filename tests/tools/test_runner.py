"""Running tools: limits, retries, threads and errors. No test waits longer than it must."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from plait import OutputError, ToolError, ToolTimeout, tool
from plait.dag.live import PROGRAM
from plait.tools import runner as runner_module
from plait.tools.runner import Runner, run_tool
from plait.tools.threads import Threads


@tool(effect="pure")
def double(x: int) -> int:
    return 2 * x


@tool(effect="pure")
async def shout(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


async def test_sync_and_async_tools_run() -> None:
    assert await run_tool(double, {"x": 4}, node="n") == 8
    assert await run_tool(shout, {"text": "hi"}, node="n") == "HI"


async def test_a_sync_tool_runs_in_a_daemon_thread_with_the_callers_context() -> None:
    color = contextvars.ContextVar("color", default="none")
    color.set("red")

    @tool
    def where() -> list[Any]:
        thread = threading.current_thread()
        seen = color.get()
        color.set("changed")
        return [seen, thread is threading.main_thread(), thread.daemon]

    assert await run_tool(where, {}, node="n") == ["red", False, True]
    assert color.get() == "red"


async def test_a_tools_body_is_outside_the_live_program_that_called_it() -> None:
    @tool
    def uses_another() -> int:
        return double(3)

    @tool
    async def uses_another_async() -> int:
        return double(4)

    PROGRAM.set(object())  # type: ignore[arg-type]
    assert await run_tool(uses_another, {}, node="n") == 6
    assert await run_tool(uses_another_async, {}, node="n") == 8
    assert PROGRAM.get() is not None


# -- errors ------------------------------------------------------------------------------------


def raiser(error: Any, is_async: bool) -> Any:
    async def fails_async() -> None:
        raise error

    def fails() -> None:
        raise error

    return tool(effect="pure", name="fails")(fails_async if is_async else fails)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad\nsecond line"), "tool 'fails' raised ValueError: bad"),
        (KeyError("name"), "tool 'fails' raised KeyError: 'name'"),
        (TimeoutError(), "tool 'fails' raised TimeoutError"),
        (KeyboardInterrupt(), "tool 'fails' raised KeyboardInterrupt"),
        (SystemExit(3), "tool 'fails' raised SystemExit: 3"),
        (StopIteration(), "tool 'fails' raised "),
        (Mute(), "tool 'fails' raised Mute"),
        (ExceptionGroup("g", [ValueError("inner")]), "tool 'fails' raised ValueError: inner"),
        (ToolError("no such city"), "no such city"),
        (OutputError("x"), "tool 'fails' raised OutputError: x"),
    ],
)
async def test_whatever_a_tool_raises_is_a_tool_error(
    error: BaseException, message: str, is_async: bool
) -> None:
    with pytest.raises(ToolError) as caught:
        await run_tool(raiser(error, is_async), {}, node="node_7")
    assert str(caught.value).startswith(message) and "second" not in str(caught.value)
    assert caught.value.node == "node_7"
    assert caught.value.__cause__ is error or isinstance(error, StopIteration)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_tool_that_cancels_itself_does_not_cancel_its_row(is_async: bool) -> None:
    with pytest.raises(ToolError, match="CancelledError|cancelled itself"):
        await run_tool(raiser(asyncio.CancelledError(), is_async), {}, node="n")


async def test_a_tool_that_cancels_the_current_task_cancels_only_itself() -> None:
    @tool
    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(5)

    with pytest.raises(ToolError, match="cancelled itself"):
        await run_tool(suicidal, {}, node="n")


# -- time --------------------------------------------------------------------------------------


async def test_an_async_tool_that_hangs_times_out_and_cleans_up() -> None:
    cleaned = []

    @tool(timeout=0.02)
    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(ToolTimeout, match=r"'hangs' took longer than 0\.02 s$") as caught:
        await run_tool(hangs, {}, node="n")
    assert cleaned == [True] and caught.value.node == "n"


async def test_an_async_tool_that_ignores_cancellation_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner_module, "GRACE", 0.02)
    release = asyncio.Event()

    @tool(timeout=0.02)
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    runner = Runner()
    with pytest.raises(ToolTimeout, match="goes on although it was cancelled"):
        await runner.run(stubborn, {}, node="n")
    assert len(runner._given_up) == 1
    release.set()
    await asyncio.sleep(0.01)
    assert not runner._given_up


async def test_an_async_tool_that_fails_while_it_is_stopped_has_timed_out() -> None:
    @tool(timeout=0.02)
    async def breaks() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("in cleanup") from None

    with pytest.raises(ToolTimeout) as caught:
        await run_tool(breaks, {}, node="n")
    assert "in cleanup" in str(caught.value.__cause__)


async def test_a_sync_tool_that_hangs_times_out_and_its_thread_is_counted() -> None:
    release = threading.Event()
    runner = Runner(threads=Threads(2, 2))

    @tool(timeout=0.03)
    def hangs() -> None:
        release.wait(5)

    with pytest.raises(ToolTimeout, match=r"left behind \(1 such\)"):
        await runner.run(hangs, {}, node="n")
    assert runner.threads.stuck == 1
    assert await runner.run(double, {"x": 1}, node="n") == 2
    release.set()
    await until(lambda: runner.threads.stuck == 0)


async def test_stuck_threads_are_replaced_up_to_a_bound_then_calls_fail_at_once() -> None:
    release = threading.Event()
    runner = Runner(threads=Threads(1, 2))

    @tool(timeout=0.03)
    def hangs() -> None:
        release.wait(5)

    @tool(timeout=5)
    def fine() -> int:
        return 1

    for _ in range(2):
        with pytest.raises(ToolTimeout):
            await runner.run(hangs, {}, node="n")
        assert await runner.run(fine, {}, node="n") == 1
    last = asyncio.create_task(runner.run(hangs, {}, node="n"))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(runner.run(fine, {}, node="m"))  # queued behind the last thread
    with pytest.raises(ToolTimeout, match=r"\(3 such\)"):
        await last
    with pytest.raises(ToolError, match=r"all 3 are stuck .*'hangs' \(3\)") as caught:
        await waiting
    assert caught.value.node == "m"
    with pytest.raises(ToolError, match="no thread is left") as caught:
        await runner.run(fine, {}, node="k")
    assert caught.value.node == "k"
    release.set()
    await until(lambda: runner.threads.stuck == 0)
    assert await runner.run(fine, {}, node="n") == 1


async def test_waiting_for_a_thread_does_not_count_as_the_tools_time() -> None:
    runner = Runner(threads=Threads(1, 0))

    @tool(timeout=0.3)
    def slow() -> int:
        time.sleep(0.05)
        return 1

    calls = [runner.run(slow, {}, node="n") for _ in range(8)]
    assert await asyncio.gather(*calls) == [1] * 8


async def test_many_sync_tools_do_not_block_the_loop() -> None:
    @tool
    def sleepy(n: int) -> int:
        time.sleep(0.02)
        return n

    runner = Runner(threads=Threads(32))
    ticks = 0

    async def watch() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.002)
            ticks += 1

    watcher = asyncio.create_task(watch())
    begun = time.monotonic()
    results = await asyncio.gather(*(runner.run(sleepy, {"n": n}, node="n") for n in range(320)))
    took = time.monotonic() - begun
    watcher.cancel()
    assert results == list(range(320))
    assert took < 320 * 0.02, "one after the other they would take this long: calls must overlap"
    assert ticks > 5, "the loop must go on while tools sleep"


# -- cancellation ------------------------------------------------------------------------------


async def test_cancelling_a_row_stops_its_async_tool() -> None:
    seen = []

    @tool
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("stopped")
            raise

    task = asyncio.create_task(run_tool(waits, {}, node="n"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["stopped"]


async def test_cancelling_a_row_leaves_its_sync_tool_behind_at_once() -> None:
    release, started = threading.Event(), threading.Event()
    runner = Runner(threads=Threads(1, 1))

    @tool
    def waits() -> None:
        started.set()
        release.wait(5)

    task = asyncio.create_task(runner.run(waits, {}, node="n"))
    await until(started.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runner.threads.stuck == 1
    release.set()
    await until(lambda: runner.threads.stuck == 0)


async def test_a_call_cancelled_while_it_waits_for_a_thread_never_runs() -> None:
    release, ran = threading.Event(), []
    runner = Runner(threads=Threads(1, 0))

    @tool
    def waits() -> None:
        release.wait(5)

    @tool
    def marks() -> None:
        ran.append(1)

    first = asyncio.create_task(runner.run(waits, {}, node="n"))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(runner.run(marks, {}, node="n"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    assert await runner.run(double, {"x": 1}, node="n") == 2 and ran == []


# -- retries -----------------------------------------------------------------------------------


class Sleeps:
    """A sleep that takes no time and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


def failing(times: int, **options: Any) -> tuple[Any, list[int]]:
    calls: list[int] = []

    @tool(effect="read", **options)
    async def flaky() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise OSError(f"try {len(calls)}")
        return "ok"

    return flaky, calls


async def test_a_failed_attempt_is_repeated_after_growing_delays() -> None:
    sleep = Sleeps()
    flaky, calls = failing(3, retries=5)
    assert await Runner(sleep=sleep).run(flaky, {}, node="n") == "ok"
    assert len(calls) == 4 and len(sleep.asked) == 3
    for number, seconds in enumerate(sleep.asked):
        assert 0.05 * 2**number <= seconds <= 0.1 * 2**number


async def test_delays_depend_on_the_seed_alone_and_are_bounded() -> None:
    async def delays(seed: int) -> list[float]:
        sleep = Sleeps()
        flaky, _ = failing(20, retries=20)
        await Runner(sleep=sleep, seed=seed).run(flaky, {}, node="n")
        return sleep.asked

    assert await delays(1) == await delays(1) != await delays(2)
    assert max(await delays(1)) <= 10


async def test_the_last_error_is_reported_with_the_number_of_attempts() -> None:
    flaky, calls = failing(9, retries=2)
    with pytest.raises(ToolError, match=r"OSError: try 3 \(after 3 attempts\)"):
        await Runner(sleep=Sleeps()).run(flaky, {}, node="n")
    assert len(calls) == 3


async def test_timeouts_are_retried_and_wrong_arguments_are_not() -> None:
    sleep, calls = Sleeps(), []

    @tool(effect="read", retries=2, timeout=0.02)
    async def slow_once(x: int) -> int:
        calls.append(1)
        await asyncio.sleep(5 if len(calls) == 1 else 0)
        return x

    assert await Runner(sleep=sleep).run(slow_once, {"x": 1}, node="n") == 1
    assert len(calls) == 2
    with pytest.raises(OutputError):
        await Runner(sleep=sleep).run(slow_once, {"x": "one"}, node="n")
    assert len(calls) == 2 and len(sleep.asked) == 1


async def test_a_retry_gets_fresh_arguments() -> None:
    seen = []

    @tool(effect="read", retries=1)
    def spoils(items: list[int]) -> int:
        seen.append(list(items))
        items.append(9)
        if len(seen) == 1:
            raise OSError
        return len(items)

    given = [1, 2]
    assert await Runner(sleep=Sleeps()).run(spoils, {"items": given}, node="n") == 3
    assert seen == [[1, 2], [1, 2]] and given == [1, 2]


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.002)


def test_a_hanging_plain_tool_does_not_keep_the_process_alive() -> None:
    program = """
import asyncio, threading
from plait import ToolTimeout, tool
from plait.tools.runner import run_tool

@tool(timeout=0.01)
def hangs() -> None:
    threading.Event().wait()

try:
    asyncio.run(run_tool(hangs, {}, node="n"))
except ToolTimeout:
    print("timed out")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "timed out\n" and done.stderr == ""
