"""What the cost model says of a batch before it runs, beside what the batch then takes.

Costs are those of calibration. Another batch of each shape, as large and with other rows, runs
first on an engine of its own: from it come lengths, tool times, how many values differ, and the
machine's speed. Then the batch is predicted and run in several ways, each on a fresh engine with an
empty cache:

    plan               all rules
    without merging    every call of every row runs
    two rows at once   a window of two rows
    half of the rows   the first half
    no plan            the workflow as it is written

What the earlier batch says of the machine's speed is told, too: how many seconds steps took for
every second that the costs alone say.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from plait.dag.cost import Cost
from plait.dag.errors import UserError
from plait.dag.workflow import as_workflow
from plait.engine.backends.local import LocalBackend
from plait.engine.corrected import Corrected, corrected, step_seconds
from plait.engine.engine import Engine
from plait.engine.options import DEFAULT_WINDOW
from plait.engine.planning import plan_for
from plait.engine.priced import price_on

from .compared import Compared, summary
from .workflow_shapes import SHAPES, Shape

ROWS = {"desk": 2, "retrieval": 16}
"""Rows of shapes that take longer than others, or less long."""
MANY = 8
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a batch."""

    name: str
    disable: tuple[str, ...] = ()
    window: int = DEFAULT_WINDOW
    share: float = 1.0
    """Of the rows."""
    plan: bool = True


WAYS = (
    Way("plan"),
    Way("without merging", ("merge_calls", "single_flight")),
    Way("two rows at once", window=2),
    Way("half of the rows", share=0.5),
    Way("no plan", plan=False),
)


def bench(
    models: dict[str, str], rows: int | None = None, shapes: Sequence[str] = (),
    ways: Sequence[str] = (), tell: Tell = print,
) -> dict[str, Any]:  # fmt: skip
    """The shapes asked for, each in the ways asked for. UserError when there is no such way."""
    unknown = sorted(set(ways) - {way.name for way in WAYS})
    if unknown:
        names = ", ".join(repr(way.name) for way in WAYS)
        raise UserError(f"no way {unknown[0]!r} to run a batch; there are {names}")
    chosen = [
        s for s in SHAPES if (not shapes or s.name in shapes) and set(s.models) <= set(models)
    ]
    taken = [way for way in WAYS if not ways or way.name in ways]
    found = [result for shape in chosen for result in compare(shape, models, rows, taken, tell)]
    return {"runs": [asdict(f) | {"error": f.error} for f in found], **summary(found)}


def compare(
    shape: Shape, models: dict[str, str], rows: int | None, ways: Sequence[Way], tell: Tell
) -> Iterator[Compared]:
    """One shape: an earlier batch to learn from, then these ways."""
    count = rows or ROWS.get(shape.name, MANY)
    batch, earlier = shape.rows(count), shape.rows(3 * count)[2 * count :]
    paths = {alias: models[alias] for alias in shape.models}
    learned = _learn(shape, paths, earlier)
    tell(f"{shape.name:12} an earlier batch: steps took {learned.disturbed:.2f} of what costs say")
    for way in ways:
        part = batch[: max(1, round(way.share * len(batch)))]
        with _engine(paths, way.window) as engine:
            said = _predict(shape, engine, way, part, learned)
            result = _run(shape, engine, way, part, said)
        error = f"{result.error:+.0%}"
        tell(f"{shape.name:12} {way.name:18} {result.predicted:8.2f} s predicted "
             f"{result.actual:8.2f} s actual {error:>6}")  # fmt: skip
        yield result


def _learn(shape: Shape, paths: dict[str, str], rows: list[dict[str, Any]]) -> Corrected:
    with _engine(paths) as engine:
        backend, workflow = _backend(engine), as_workflow(shape.workflow)
        before = step_seconds(backend, shape.models)
        run = engine.run(shape.workflow, rows)
        taken = step_seconds(backend, shape.models) - before
        plan = plan_for([(workflow, rows)])
        return corrected(backend, plan, rows, run.stats.as_json(), taken)


def _predict(
    shape: Shape, engine: Engine, way: Way, rows: list[dict[str, Any]], learned: Corrected
) -> Cost:
    priced = price_on(
        _backend(engine), as_workflow(shape.workflow), rows, learned.estimates, planned=way.plan,
        disable=way.disable, window=way.window, disturbed=learned.disturbed,
    )  # fmt: skip
    assert priced.cost is not None
    return priced.cost


def _run(
    shape: Shape, engine: Engine, way: Way, rows: list[dict[str, Any]], cost: Cost
) -> Compared:
    before = _counted(engine, shape)
    start = time.perf_counter()
    run = engine.run(shape.workflow, rows, plan=way.plan, disable=way.disable)
    actual = time.perf_counter() - start
    after = _counted(engine, shape)
    assert all(row.ok for row in run.rows), run.failed[0]
    steps, prefill, generated = (b - a for a, b in zip(before, after, strict=True))
    return Compared(
        shape.name, way.name, len(rows), cost.seconds, actual, cost.low, cost.high,
        (round(cost.decode_steps), steps), (round(cost.prefill_tokens), prefill),
        (round(cost.decode_tokens), generated),
    )  # fmt: skip


@contextmanager
def _engine(paths: dict[str, str], window: int = DEFAULT_WINDOW) -> Iterator[Engine]:
    with Engine(models=paths, max_rows=window) as engine:
        for alias in paths:
            engine.generate("warm up", model=alias, max_tokens=2)
        yield engine
    gc.collect()


def _backend(engine: Engine) -> LocalBackend:
    assert isinstance(engine.backend, LocalBackend)
    return engine.backend


def _counted(engine: Engine, shape: Shape) -> tuple[int, int, int]:
    """Steps, prefilled and generated tokens so far."""
    backend = _backend(engine)
    engines = {id(llm): llm for llm in (backend.llm(alias) for alias in shape.models)}
    counters = [llm.counters() for llm in engines.values()]
    return (
        sum(c.steps for c in counters), sum(c.prefill_tokens for c in counters),
        sum(c.generated_tokens for c in counters),
    )  # fmt: skip
