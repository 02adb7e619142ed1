"""The record of a run: one line per row, whatever the order, a crash or a resume."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import Failure, InputError, Row
from plait.engine.results import (
    Copy,
    OrderedCopy,
    Results,
    encode,
    mend,
    read_results,
    reorder,
)

quick = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
orders = st.integers(1, 25).flatmap(lambda n: st.permutations(range(n)))


class Kept(io.BytesIO):
    """A file whose contents can be read after it is closed."""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


def row(index: int, ok: bool = True) -> Row:
    if ok:
        return Row(f"r{index}", "ok", {"n": index, "text": "é" * (index % 7)}, index=index)
    return Row(f"r{index}", "error", error=Failure("ToolError", "no", "node"), index=index)


def ids(data: bytes) -> list[Any]:
    return [json.loads(line)["id"] for line in data.splitlines()]


@quick
@given(orders)
def test_an_ordered_copy_is_in_order_and_the_record_is_not(
    tmp_path: Path, order: list[int]
) -> None:  # fmt: skip
    path, copied = tmp_path / "out.jsonl", Kept()
    path.unlink(missing_ok=True)
    results = Results(path, OrderedCopy(copied, path))
    for k, index in enumerate(order):
        results.write(row(index))
        first_gap = next(i for i in range(len(order) + 1) if i not in order[: k + 1])
        assert len(ids(copied.getvalue())) == first_gap, "a row whose turn it is was held back"
    results.close()
    assert ids(copied.kept) == [f"r{i}" for i in range(len(order))]
    assert ids(path.read_bytes()) == [f"r{i}" for i in order]
    reorder(path, {f"r{i}": i for i in order})
    assert path.read_bytes() == copied.kept


def test_an_ordered_copy_of_a_run_that_stopped_has_every_finished_row(tmp_path: Path) -> None:
    path, copied = tmp_path / "out.jsonl", Kept()
    results = Results(path, OrderedCopy(copied, path))
    for index in (5, 0, 3):
        results.write(row(index))
    results.close()
    assert ids(copied.kept) == ["r0", "r3", "r5"]


def test_a_plain_copy_is_the_record(tmp_path: Path) -> None:
    path, copied = tmp_path / "out.jsonl", Kept()
    results = Results(path, Copy(copied))
    for index in (2, 0, 1):
        results.write(row(index))
        assert copied.getvalue() == path.read_bytes(), "a finished row is not written yet"
    results.close()


def test_a_record_cut_anywhere_can_be_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    whole = b"".join(encode(row(i)) for i in range(4))
    ends = [0]
    for i in range(4):
        ends.append(ends[-1] + len(encode(row(i))))
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        done = mend(path)
        there = sum(end <= size for end in ends) - 1
        assert list(done) == [f"r{i}" for i in range(there)]
        assert path.stat().st_size == ends[there]
    path.write_bytes(whole + b"\0" * 700)  # what a power loss may leave of an unsynced end
    assert len(mend(path)) == 4 and path.read_bytes() == whole


def test_a_line_in_the_middle_that_is_no_result_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(encode(row(0)) + b"{}\n" + encode(row(1)))
    with pytest.raises(InputError, match=r"out.jsonl:2 is not a result"):
        mend(path)
    assert path.read_bytes().count(b"\n") == 3


def test_failed_rows_can_be_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"".join(encode(row(i, ok=i % 2 == 0)) for i in range(5)))
    assert mend(path, drop_errors=True) == {"r0": "ok", "r2": "ok", "r4": "ok"}
    assert [at.row["id"] for at in read_results(path)] == ["r0", "r2", "r4"]
    assert mend(tmp_path / "none.jsonl") == {}


def test_texts_that_utf8_cannot_say_are_written_as_json_escapes() -> None:
    line = encode(Row("a", "ok", "\ud800 é"))
    assert json.loads(line)["output"] == "\ud800 é" and b"\\ud800" in line


def test_what_could_not_be_put_on_disk_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, failing = list[int](), [True]

    def fsync(file: int) -> None:
        synced.append(file)
        if failing.pop() if failing else False:
            raise OSError(5, "input/output error")

    monkeypatch.setattr("plait.engine.results.os.fsync", fsync)
    results = Results(tmp_path / "out.jsonl")
    results.write(row(0))
    with pytest.raises(OSError, match="input/output"):
        results.sync()
    results.close()
    assert len(synced) == 2
    results.sync()  # of a thread that comes too late
    assert len(synced) == 2
