"""Reading rows: every row once, under its id, whatever stands around it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import InputError
from plait.dag.nodes import Input
from plait.engine import readers
from plait.engine.rows import find_rows, open_rows

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
texts = st.text(st.characters(codec="utf-8"), max_size=12)
rows = st.lists(st.fixed_dictionaries({"topic": texts, "n": st.integers()}), min_size=1, max_size=9)
BAD = [b"{", b"nope", b"[1]", b"\xff\xfe", b'{"a": Infinity}']


@quick
@given(st.lists(st.one_of(st.integers(), st.sampled_from(BAD), st.just(b"")), max_size=30))
def test_every_line_that_is_not_empty_is_one_row(
    tmp_path: Path, lines: list[int | bytes]
) -> None:  # fmt: skip
    path = tmp_path / "rows.jsonl"
    data = [b'{"topic": "first"}']
    data += [line if isinstance(line, bytes) else b'{"topic": "%d"}' % line for line in lines]
    path.write_bytes(b"\n".join(data))
    found = open_rows(path)
    items = list(found.items())
    assert len(items) == len(found) == sum(bool(line.strip()) for line in data)
    assert [item.index for item in items] == list(range(len(items)))
    assert len({item.id for item in items}) == len(items) and list(found.lines) == [
        item.id for item in items
    ]
    bad = [item for item in items if isinstance(item.content, InputError)]
    assert len(bad) == sum(line in BAD for line in data)
    for item in bad:
        number = int(str(item.id).removeprefix("line "))
        assert data[number - 1] in BAD and f"rows.jsonl:{number}: " in str(item.content)


@quick
@given(rows)
def test_all_formats_hold_the_same_rows(tmp_path: Path, given_rows: list[dict[str, Any]]) -> None:
    jsonl, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    jsonl.write_text("\n".join(json.dumps(row) for row in given_rows), "utf-8")
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["topic", "n"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(given_rows)
    assert list(open_rows(jsonl)) == given_rows
    if not any("\r" in row["topic"] for row in given_rows):
        read = [{**row, "n": int(row["n"])} for row in open_rows(table) if row]
        assert read == given_rows


@pytest.mark.parametrize("count", [1, 1023, 1024, 3000])
def test_parquet_is_read_in_batches(tmp_path: Path, count: int) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    given_rows = [{"topic": f"t{i}", "tags": [str(i)]} for i in range(count)]
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.Table.from_pylist(given_rows), path)
    found = open_rows(path, (Input(id="topic", type=str),))
    assert len(found) == count and list(found) == given_rows
    with pytest.raises(InputError, match="column 'question' is missing"):
        open_rows(path, (Input(id="question", type=str),))


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'plait\[parquet\]'"):
        open_rows(path)


def test_empty_cells_mean_the_default_of_inputs_that_are_not_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n,,\n")
    inputs = (
        Input(id="a", type=str, default="x"), Input(id="b", type=int, default=3),
        Input(id="c", type=int),
    )  # fmt: skip
    assert list(open_rows(path, inputs)) == [{"a": "", "c": ""}]


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": 2}\n{"id": 1}\n')
    assert [item.id for item in open_rows(path, limit=2).items()] == [1, 2]
    with pytest.raises(InputError, match="id 1 is also on line 1"):
        open_rows(path, limit=3)


def test_rows_that_are_done_keep_the_others_in_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"t": 0}\n{"t": 1}\nbad\n{"t": 3}\n')
    items = list(open_rows(path).items(without={0, "line 3"}))
    assert [(item.id, item.index, item.content) for item in items] == [
        (1, 1, {"t": 1}), (3, 3, {"t": 3})
    ]  # fmt: skip


def test_rows_added_while_it_runs_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"t": 0}\n')
    found = open_rows(path)
    with path.open("a") as file:
        file.write('{"t": 1}\n')
    assert list(found) == [{"t": 0}]


def test_the_first_pass_keeps_ids_and_not_rows(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for i in range(2000):
            file.write(json.dumps({"id": i, "text": "x" * 5_000}) + "\n")
    tracemalloc.start()
    try:
        found = open_rows(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 2000 and peak < 2_000_000 < path.stat().st_size


def test_the_hash_is_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"t": 0}\n{"t": 1}\n')
    before = open_rows(path, limit=1).sha256
    path.write_text('{"t": 0}\n{"t": 2}\n')
    assert open_rows(path, limit=1).sha256 != before


def test_long_lines_are_skipped_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_LINE", 10)
    file = io.BytesIO(b"short\n" + b"x" * 100 + b"\nend\n" + b"y" * 50)
    assert list(readers._lines(file)) == [b"short\n", None, b"end\n", None]


def test_rows_are_found_by_id(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "t": 0}\nbad\n{"t": 2}\n{"id": "d", "t": 3}\n')
    assert find_rows(path, {"a", 2, "none"}) == {"a": {"id": "a", "t": 0}, 2: {"t": 2}}
    with pytest.raises(InputError):
        find_rows(tmp_path / "gone.jsonl", {"a"})
