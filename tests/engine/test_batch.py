"""A batch as a whole: one result per row, whatever is in the file and however it is stopped."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import ConfigError
from plait.engine.aside import GivenUp
from plait.engine.batch import Batch
from plait.engine.prepare import prepare, prepare_retry
from plait.engine.priced import Priced
from plait.engine.row import Row
from plait.engine.settings import Settings

WORKFLOW = """
import asyncio
from plait import tool
@tool(effect="pure")
async def work(n: int) -> int:
    for _ in range(n % 4):
        await asyncio.sleep(0)
    if n % 5 == 0:
        raise ValueError("a fifth")
    return -n
"""
lines = st.lists(
    st.one_of(st.integers(0, 99), st.sampled_from(["{", "[1]", '{"n": "x"}', '{"m": 1}', ""])),
    max_size=25,
)


def write(folder: Path, given_lines: list[int | str]) -> int:
    """A file of rows that begins with a good one; how many rows it has."""
    texts = ['{"n": 1}', *(x if isinstance(x, str) else json.dumps({"n": x}) for x in given_lines)]
    (folder / "rows.jsonl").write_text("\n".join(texts))
    (folder / "wf.py").write_text(WORKFLOW)
    return sum(bool(text) for text in texts)


def execute(batch: Batch, stop_after: int | None = None, abort: bool = False) -> None:
    """Run a batch, and stop it once so many rows are written."""
    write_row, count = batch._results.write, 0

    def counted(row: Row) -> None:
        nonlocal count
        write_row(row)
        count += 1
        if count == stop_after:
            batch.abort() if abort else batch.stop("interrupted")

    batch._results.write = counted  # type: ignore[method-assign]
    try:
        asyncio.run(batch.execute())
    finally:
        batch.engine.close()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(folder: Path, **options: Any) -> Settings:
    return Settings(
        str(folder / "wf.py"), str(folder / "rows.jsonl"), backend="fake", **options
    )  # fmt: skip


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines, st.integers(1, 8), st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=3),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_every_row_has_exactly_one_result_however_often_it_is_stopped(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[int | str], window: int,
    stops: list[tuple[int, bool]], keep_order: bool, copied: bool,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("batch")
    count, run_dir = write(folder, given_lines), folder / "r"
    out = folder / "out.jsonl" if copied else run_dir / "out.jsonl"
    options = asked(
        folder, max_rows=window, keep_order=keep_order, output=str(out) if copied else None
    )
    for number, (after, abort) in enumerate([*stops, (None, False)]):
        batch = prepare(options, run_dir, resume=number > 0)
        execute(batch, after, abort)
        done = {row["id"] for row in read(run_dir / "out.jsonl")}
        assert len(read(run_dir / "out.jsonl")) == len(done), "a row has two results"
        assert {row["id"] for row in read(out)} == done
    assert batch.complete and len(read(out)) == count == len(batch.rows)
    assert {row["id"] for row in read(out)} == set(batch.rows.lines)
    if keep_order:
        assert [row["id"] for row in read(out)] == list(batch.rows.lines)
    texts = [text for text in ("1", *map(str, given_lines)) if text]
    for row, item in zip(sorted(read(out), key=lambda r: list(batch.rows.lines).index(r["id"])),
                         texts, strict=True):  # fmt: skip
        good = item.isdigit() and int(item) % 5 != 0
        assert row["status"] == ("ok" if good else "error")
        assert row["output"] == (-int(item) if good else None)
    assert batch.failed == sum(row["status"] == "error" for row in read(out))


def test_a_directory_is_run_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, [2, 3])
    first = prepare(asked(tmp_path), tmp_path / "r")
    with pytest.raises(ConfigError, match="another process is running"):
        prepare(asked(tmp_path), tmp_path / "r", resume=True)
    execute(first)
    execute(prepare(asked(tmp_path), tmp_path / "r", resume=True))


def test_the_record_itself_may_be_named_as_the_output(tmp_path: Path) -> None:
    count = write(tmp_path, list(range(20)))
    options = asked(tmp_path, output=str(tmp_path / "r" / "out.jsonl"), keep_order=True)
    (tmp_path / "r").mkdir()
    execute(prepare(options, tmp_path / "r"), 5)
    execute(prepare(options, tmp_path / "r", resume=True))
    assert [row["id"] for row in read(tmp_path / "r" / "out.jsonl")] == list(range(count))


def test_a_smaller_limit_finds_its_rows_done(tmp_path: Path) -> None:
    write(tmp_path, [2, 3, 4])
    execute(prepare(asked(tmp_path), tmp_path / "r"))
    batch = prepare(asked(tmp_path, limit=2), tmp_path / "r", resume=True)
    execute(batch)
    assert batch.complete and len(batch.before) == 2
    assert len(read(tmp_path / "r" / "out.jsonl")) == 4


def test_retry_of_a_stopped_run_also_runs_what_is_missing(tmp_path: Path) -> None:
    count = write(tmp_path, list(range(30)))
    execute(prepare(asked(tmp_path, max_rows=2), tmp_path / "r"), 12)
    (tmp_path / "wf.py").write_text(WORKFLOW.replace("n % 5 == 0", "n == 25"))
    batch = prepare_retry(tmp_path / "r")
    execute(batch)
    rows = read(tmp_path / "r" / "out.jsonl")
    assert len(rows) == count == len({row["id"] for row in rows})
    assert [row["id"] for row in rows if row["status"] == "error"] == [26] and batch.failed == 1


def test_rows_that_resume_keep_their_ids_and_seeds(tmp_path: Path) -> None:
    """A sampled call draws from its row's own seed: where the run was cut does not show."""
    (tmp_path / "wf.py").write_text(
        "from plait import llm\n@llm(temperature=1.0)\ndef ask(n: int) -> str:\n    return str(n)\n"
    )
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(12)))
    seeds: list[dict[str, int]] = []
    for name, stops in (("a", (None,)), ("b", (5, None))):
        drawn: dict[str, int] = {}
        for number, after in enumerate(stops):
            batch = prepare(asked(tmp_path, max_rows=1), tmp_path / name, resume=number > 0)
            generate = batch.engine.backend.generate

            async def noted(call: Any, generate: Any = generate, drawn: Any = drawn) -> Any:
                drawn[call.row] = call.seed
                return await generate(call)

            batch.engine.backend.generate = noted  # type: ignore[method-assign]
            execute(batch, after)
        seeds.append(drawn)
    assert seeds[0] == seeds[1] and len(set(seeds[0].values())) == 12


CALLS_FIRST = """
from plait import llm, tool, workflow
@tool(effect="pure")
def shout(text: str) -> str:
    return text.upper()
@llm(max_tokens=4)
def draft(style: str, n: int) -> str:
    return f"{style}: {n}"
@workflow
def flow(n: int) -> str:
    return draft(shout("see"), n)
"""


def call_first(folder: Path) -> None:
    (folder / "wf.py").write_text(CALLS_FIRST)
    (folder / "rows.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(6)))


def plan_of(folder: Path) -> dict[str, Any]:
    """What stands in plan.json, which must not contradict itself: a call that was made while
    planning is none to make."""
    plan = json.loads((folder / "r" / "plan.json").read_text())
    called = {made["node"] for made in plan.get("called", ())}
    assert called.isdisjoint(step["id"] for step in plan["steps"]) and "dag" in plan
    assert plan["totals"]["tool_calls"] == (0 if called else plan["rows"])
    assert plan["totals"]["llm_calls"] == plan["rows"]
    return plan  # type: ignore[no-any-return]


@pytest.mark.parametrize("stops", [(None,), (1, None)])
def test_the_plan_that_was_followed_is_written_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int | None, ...]
) -> None:
    """A start that resumes has planned the rows that were left: what is counted is of all rows."""
    call_first(tmp_path)

    def planned(*_: object, **more: object) -> NoReturn:
        raise AssertionError("planned once more")

    for number, after in enumerate(stops):
        batch = prepare(asked(tmp_path, max_rows=1), tmp_path / "r", resume=number > 0)
        with monkeypatch.context() as patch:
            patch.setattr("plait.engine.plan_file.make_plan", planned)
            execute(batch, after)
    assert batch.complete
    plan = plan_of(tmp_path)
    assert [made["node"] for made in plan["called"]] == ["shout"] and plan["rows"] == 6


def test_a_start_that_never_begins_takes_nothing_from_the_plan(tmp_path: Path) -> None:
    call_first(tmp_path)
    execute(prepare(asked(tmp_path, max_rows=1), tmp_path / "r"), 1)
    before = plan_of(tmp_path)
    again = prepare(asked(tmp_path), tmp_path / "r", resume=True)
    assert plan_of(tmp_path) == before and before["called"]
    execute(again)
    again = prepare_retry(tmp_path / "r")
    assert plan_of(tmp_path) == before
    execute(again)


@pytest.mark.parametrize("change", [{"limit": None}, {"disable": ["merge_calls"]}])
def test_what_a_further_start_plans_otherwise_is_planned_anew(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    call_first(tmp_path)
    execute(prepare(asked(tmp_path, limit=3), tmp_path / "r"), 1)
    assert plan_of(tmp_path)["rows"] == 3
    batch = prepare(asked(tmp_path, **{"limit": 3, **change}), tmp_path / "r", resume=True)
    execute(batch)
    plan = plan_of(tmp_path)
    assert plan["rows"] == len(batch.rows) == (6 if "limit" in change else 3)
    assert ("merge_calls" in plan["rules"]) == ("disable" not in change)


@dataclass
class Price:
    """As much of a cost as is written."""

    def as_dict(self) -> dict[str, Any]:
        return {"seconds": 1.0}


def explained(folder: Path) -> dict[str, Any] | None:
    last = json.loads((folder / "r" / "run.json").read_text())["sessions"][-1]
    assert last["status"] == "complete"
    return last.get("cost")  # type: ignore[no-any-return]


async def test_a_run_is_explained_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, goes_on = write(tmp_path, [2, 3]), threading.Event()
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def expects(backend: Any, workflow: Any, rows: Any, *more: Any) -> Priced:
        assert len(rows) == len(list(rows)) == count
        loop.call_soon_threadsafe(begun.set)
        assert goes_on.wait(30)
        plan, cost = cast(Any, None), cast(Any, Price())
        return Priced(plan, cost)

    monkeypatch.setattr("plait.engine.batch.expectation", expects)
    batch = prepare(asked(tmp_path), tmp_path / "r")
    run = asyncio.create_task(batch.execute())
    await begun.wait()
    assert explained(tmp_path) is None and len(read(tmp_path / "r" / "out.jsonl")) == count
    goes_on.set()
    await run
    batch.engine.close()
    assert explained(tmp_path) == {"seconds": 1.0}


@pytest.mark.parametrize("end", ["time", "stop", "abort"])
async def test_a_run_does_not_wait_long_to_be_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    write(tmp_path, [2, 3])
    begun, given_up = threading.Event(), threading.Event()

    def expects(backend: Any, workflow: Any, rows: Any, *more: Any) -> None:
        begun.set()
        try:
            while True:
                list(rows)
        except GivenUp:
            given_up.set()

    monkeypatch.setattr("plait.engine.batch.expectation", expects)
    monkeypatch.setattr("plait.engine.batch.EXPLAINED", 0.01 if end == "time" else 600.0)
    batch = prepare(asked(tmp_path), tmp_path / "r")
    run = asyncio.create_task(batch.execute())
    assert await asyncio.to_thread(begun.wait, 30)
    if end != "time":
        batch.abort() if end == "abort" else batch.stop("interrupted")
    await run
    batch.engine.close()
    assert await asyncio.to_thread(given_up.wait, 30)
    assert explained(tmp_path) is None and batch.status == "complete"


def test_a_run_learns_from_the_runs_beside_it_wherever_they_are(tmp_path: Path) -> None:
    """In a folder that is made for runs; beside other files nothing is written."""
    write(tmp_path, [2, 3])
    settings = Settings(str(tmp_path / "wf.py"), str(tmp_path / "rows.jsonl"), backend="fake")
    known = []
    for name in ("out/a", "out/b", "alone"):
        batch = prepare(settings, tmp_path / name)
        known.append(len(batch.config["sessions"][-1]["expected"]))
        execute(batch)
    assert known == [0, 1, 0]
    assert (tmp_path / "out" / "history.json").exists()
    assert not [path for path in tmp_path.iterdir() if "history" in path.name]
