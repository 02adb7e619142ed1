"""Single flight: one execution, many waiters, and what happens when it fails or they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dag.errors import ToolError
from plait.engine.single_flight import SingleFlight, fresh, size_of


class Job:
    """Work that waits to be let go, and counts."""

    def __init__(self, value: Any = "done", error: Exception | None = None) -> None:
        self.gate, self.started, self.cancelled = asyncio.Event(), 0, 0
        self.value, self.error = value, error

    async def __call__(self) -> Any:
        self.started += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.value


async def asked(
    flights: SingleFlight, job: Callable[[], Coroutine[Any, Any, Any]], count: int, **options: Any
) -> list[asyncio.Task[Any]]:
    tasks = [
        asyncio.create_task(flights.join("key", f"node{i}", job, **options)) for i in range(count)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_one_execution_many_waiters_and_later_askers() -> None:
    flights, job = SingleFlight(), Job()
    tasks = await asked(flights, job, 5)
    job.gate.set()
    joined = await asyncio.gather(*tasks)
    assert [j.value for j in joined] == ["done"] * 5
    assert [j.own for j in joined] == [True, False, False, False, False]
    assert (await flights.join("key", "later", job)) == ("done", False)
    assert job.started == 1 and not flights.under_way("key") and flights.has("key")
    flights.drop("key")
    assert not flights.has("key") and flights.kept_bytes == 0
    assert (await flights.join("key", "again", job)).own and job.started == 2


async def test_results_that_may_not_be_kept_are_shared_only_under_way() -> None:
    flights, job = SingleFlight(), Job()
    tasks = await asked(flights, job, 2, keep=False)
    job.gate.set()
    await asyncio.gather(*tasks)
    assert job.started == 1
    assert (await flights.join("key", "later", job, keep=False)).own and job.started == 2


async def test_a_failure_goes_to_all_who_wait_as_their_own_and_is_not_kept() -> None:
    error = ToolError("broken", "node0/inner")
    error.__cause__ = ValueError("why")
    flights, job = SingleFlight(), Job(error=error)
    tasks = await asked(flights, job, 3)
    job.gate.set()
    found: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(e) for e in found] == [ToolError] * 3
    assert len({id(e) for e in found}) == 3
    assert [e.node for e in found] == ["node0/inner", "node1/inner", "node2/inner"]
    assert all(str(e) == "broken" and isinstance(e.__cause__, ValueError) for e in found)
    job.error = None
    assert (await flights.join("key", "later", job)).value == "done" and job.started == 2


async def test_a_waiter_that_leaves_does_not_stop_the_others() -> None:
    flights, job = SingleFlight(), Job()
    first, second, third = await asked(flights, job, 3)
    first.cancel()  # the one that started it
    third.cancel()
    await asyncio.sleep(0)
    job.gate.set()
    assert (await second).value == "done"
    assert first.cancelled() and third.cancelled() and job.cancelled == 0 and job.started == 1


async def test_the_last_waiter_to_leave_cancels_the_work() -> None:
    flights, job = SingleFlight(), Job()
    tasks = await asked(flights, job, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert job.cancelled == 1 and not flights.under_way("key")
    # Who comes now does not join what is being cancelled.
    job.gate.set()
    assert (await flights.join("key", "later", job)).own


async def test_close_cancels_what_is_under_way() -> None:
    flights, job = SingleFlight(), Job()
    tasks = await asked(flights, job, 2)
    await flights.close()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(e) for e in found] == [asyncio.CancelledError] * 2
    assert job.cancelled == 1 and not flights.under_way("key")


async def test_what_is_kept_is_bounded_and_the_longest_unasked_goes_first() -> None:
    async def text() -> str:
        return "x" * 1_000

    flights = SingleFlight(limit=3_500)
    for key in ("a", "b", "c"):
        await flights.join(key, "", text)
    await flights.join("a", "", text)
    await flights.join("d", "", text)
    assert [k for k in "abcd" if flights.has(k)] == ["a", "c", "d"]
    assert flights.kept_bytes == 3 * size_of("x" * 1_000) <= 3_500

    async def huge() -> str:
        return "x" * 10_000

    await flights.join("huge", "", huge)
    assert not flights.has("huge") and flights.has("d")


async def test_results_that_others_are_sure_to_ask_for_stay() -> None:
    async def text() -> str:
        return "x" * 1_000

    size = size_of("x" * 1_000)
    flights = SingleFlight(limit=2 * size, most_wanted=2 * size)
    await flights.join("a", "", text, wanted=True)
    for number in range(9):
        await flights.join(number, "", text)
    assert flights.has("a") and not await again(flights, "a")
    assert [n for n in range(9) if flights.has(n)] == [7, 8]
    await flights.join("b", "", text, wanted=True)
    await flights.join("c", "", text, wanted=True)  # more than there is room for: like the rest
    assert all(map(flights.has, "abc")) and not flights.has(7)
    for number in range(2):
        await flights.join(number, "", text)
    assert flights.has("a") and flights.has("b") and not flights.has("c")
    assert (flights.kept_bytes, flights.wanted_bytes) == (2 * size, 2 * size)
    flights.drop("a")
    await flights.join("d", "", text, wanted=True)
    assert not flights.has("a") and flights.has("d") and flights.wanted_bytes == 2 * size
    await flights.close()
    assert not flights.has("b") and flights.kept_bytes == flights.wanted_bytes == 0


async def again(flights: SingleFlight, key: str) -> bool:
    """Whether work is done anew."""

    async def other() -> str:
        return "other"

    return (await flights.join(key, "", other)).own


async def test_work_that_outlives_its_cancelling_is_counted_once() -> None:
    flights, stubborn = SingleFlight(), asyncio.Event()

    async def work() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await stubborn.wait()
        return "x"

    (task,) = await asked(flights, work, 1)
    task.cancel()
    await asyncio.sleep(0)
    assert await again(flights, "key")
    stubborn.set()
    for _ in range(4):
        await asyncio.sleep(0)
    assert flights.kept_bytes == size_of("x")


@given(st.lists(st.tuples(
    st.integers(0, 3), st.sampled_from(["join", "want", "leave", "let go", "fail", "drop"])
), max_size=24))  # fmt: skip
def test_every_asker_gets_an_answer_whatever_happens(steps: list[tuple[int, str]]) -> None:
    async def play() -> None:
        flights = SingleFlight(limit=200, most_wanted=130)
        jobs: dict[int, Job] = {}
        tasks: list[asyncio.Task[Any]] = []
        for key, what in steps:
            job = jobs.setdefault(key, Job(value=key))
            if what in ("join", "want"):
                asks = flights.join(key, "n", job, wanted=what == "want")
                tasks.append(asyncio.create_task(asks))
            elif what == "drop":
                flights.drop(key)
            elif what == "leave" and tasks:
                tasks[key % len(tasks)].cancel()
            elif what == "let go":
                job.gate.set()
            elif what == "fail":
                job.error = ToolError("no")
            await asyncio.sleep(0)
        for job in jobs.values():
            job.gate.set()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        for outcome in found:
            assert isinstance(outcome, tuple | ToolError | asyncio.CancelledError)
        await asyncio.sleep(0)
        assert not any(map(flights.under_way, jobs))
        assert flights.kept_bytes == sum(size for _, size in flights._kept.values()) <= 200
        assert flights.wanted_bytes == sum(size for _, size in flights._wanted.values()) <= 130
        assert not set(flights._kept) & set(flights._wanted)

    asyncio.run(play())


def test_copies_are_the_receivers_own() -> None:
    value = {"a": [1, {"b": [2]}], "t": (3, [4])}
    copied = fresh(value)
    assert copied == value
    copied["a"][1]["b"].append(5)
    copied["t"][1].append(6)
    assert value == {"a": [1, {"b": [2]}], "t": (3, [4])}
    text = "same"
    assert fresh(text) is text


async def test_work_that_raises_at_once_is_no_special_case() -> None:
    async def broken() -> None:
        raise ToolError("at once")

    flights = SingleFlight()
    with pytest.raises(ToolError):
        await flights.join("key", "n", broken)
    assert not flights.under_way("key")
