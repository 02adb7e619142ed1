"""What the executor costs per task, apart from models and tools.

The workflow is 1 -> 4 -> 1 -> 3 -> 1: ten LLM calls whose answers are strings of a fake model that
takes no time, so all the time that passes is plait's own. LangGraph runs the same graph over a
tenth of the rows when it is installed, each of its nodes an async function that does what the
fake model does. Both run on one event loop in one thread; planning and compilation are inside.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from operator import add
from typing import Annotated, Any

import plait
from plait.engine.engine import Engine

NODES = 10
WIDE, NARROW = 4, 3


@plait.llm
def ask(text: str) -> str:
    return f"Answer: {text}"


@plait.llm
def join(a: str, b: str, c: str, d: str = "") -> str:
    return f"Join: {a} {b} {c} {d}"


@plait.workflow
def graph(topic: str) -> str:
    start = ask(topic)
    a, b, c, d = (ask(start) for _ in range(WIDE))
    middle = join(a, b, c, d)
    x, y, z = (ask(middle) for _ in range(NARROW))
    return join(x, y, z)


def answer(call: Any) -> str:
    return "yes"


def rows(count: int) -> Iterator[dict[str, Any]]:
    return ({"topic": f"topic {i}"} for i in range(count))


def run_plait(count: int) -> float:
    """Seconds plait takes; rows are streamed and dropped, as `plait run` does."""
    from plait.engine.backends.fake import FakeBackend

    backend = FakeBackend(answer)
    with Engine(backend=backend, plan=False) as engine:

        async def drain() -> int:
            return sum([row.ok async for row in engine.astream(graph, rows(count))])

        start = time.perf_counter()
        done = asyncio.run(drain())
        seconds = time.perf_counter() - start
    assert done == count, f"{done} of {count} rows are ok"
    assert backend.calls == count * NODES, f"{backend.calls} calls for {count} rows"
    return seconds


def run_langgraph(count: int, window: int = 256) -> float:
    """Seconds LangGraph takes, with as many rows under way at once as plait has."""
    from langgraph.graph import END, START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict):
        topic: str
        texts: Annotated[list[str], add]

    async def node(state: State) -> dict[str, list[str]]:
        prompt = f"Answer: {state['topic']}"
        return {"texts": ["yes" if prompt else ""]}

    layers = [["start"], [f"a{i}" for i in range(WIDE)], ["middle"],
              [f"b{i}" for i in range(NARROW)], ["end"]]  # fmt: skip
    start = time.perf_counter()
    builder: Any = StateGraph(State)
    for layer in layers:
        for name in layer:
            builder.add_node(name, node)
    builder.add_edge(START, "start")
    for above, below in zip(layers, layers[1:], strict=False):
        for name in below:
            builder.add_edge(above, name)
    builder.add_edge("end", END)
    app = builder.compile()

    async def drain() -> int:
        room = asyncio.Semaphore(window)

        async def one(row: dict[str, Any]) -> int:
            async with room:
                done = await app.ainvoke({**row, "texts": []})
                return len(done["texts"])

        return sum(await asyncio.gather(*(one(row) for row in rows(count))))

    total = asyncio.run(drain())
    assert total == count * NODES
    return time.perf_counter() - start


def memory_per_row(small: int = 1_500, large: int = 4_000) -> float:
    """Bytes of Python memory held for each further finished row, streamed and dropped.

    The first rows fill the bounded timeline of spans; what counts is what comes after.
    """
    from plait.engine.backends.fake import FakeBackend

    async def held(count: int) -> int:
        with Engine(backend=FakeBackend(answer), plan=False) as engine:
            stream = engine.astream(graph, rows(count + 1))
            for _ in range(count):
                await anext(stream)
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
            await stream.aclose()  # type: ignore[attr-defined]
            return size

    tracemalloc.start()
    try:
        asyncio.run(held(small))
        first, second = asyncio.run(held(small)), asyncio.run(held(large))
    finally:
        tracemalloc.stop()
    return (second - first) / (large - small)


def measure(run: Callable[[int], float], count: int, repeats: int) -> float:
    return statistics.median(run(count) for _ in range(repeats))


def bench(count: int = 5_000, repeats: int = 3) -> dict[str, Any]:
    """Tasks per second of each contender, and memory per finished row."""
    run_plait(200)
    seconds = measure(run_plait, count, repeats)
    found: dict[str, Any] = {
        "workflow": "1 -> 4 -> 1 -> 3 -> 1",
        "rows": count,
        "plait": {"seconds": seconds, "tasks_per_second": count * NODES / seconds},
        "bytes_per_finished_row": memory_per_row(),
    }
    if find_spec("langgraph") is not None:
        run_langgraph(20)
        few = max(100, count // 10)
        seconds = measure(run_langgraph, few, repeats)
        found["langgraph"] = {
            "version": version("langgraph"),
            "rows": few,
            "seconds": seconds,
            "tasks_per_second": few * NODES / seconds,
        }
    return found


def table(found: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"executor overhead, {found['workflow']}, fake model, {found['rows']} rows, one core"]
    for name in ("plait", "langgraph"):
        if name in found:
            entry = found[name]
            label = f"{name} {entry.get('version', '')}".strip()
            each = 1e6 / entry["tasks_per_second"]
            lines.append(
                f"{label:>20}  {entry['tasks_per_second']:9,.0f} tasks/s  {each:6.0f} us a task"
            )
    if "langgraph" not in found:
        lines.append("           langgraph  not installed")
    lines.append(f"memory held per finished row: {found['bytes_per_finished_row']:.0f} bytes")
    return "\n".join(lines)
