"""What attention has to read in one step, as items: a range of query rows x runs of KV slots.

Rows are packed so that requests below one tree node are neighbours. Each tree node is then one
item for all rows below it, each private tail one item, and each prefill chunk one causal item.
Plain Python: the back ends turn items into device calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....cache.node import Node
from ..request import Chunk, Run, cut_runs


@dataclass(frozen=True, slots=True)
class Item:
    """Rows `[row, row + rows)` attend to `length` slots whose positions start at `position`."""

    row: int
    rows: int
    runs: tuple[Run, ...]
    position: int
    length: int
    causal: bool = False
    """The runs hold exactly these rows' own tokens: row i sees the first i + 1 of them."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one chunk and the way from the root to its own pages."""

    chunk: Chunk
    row: int
    path: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunks in packing order, with the items they need."""

    spans: tuple[Span, ...]
    items: tuple[Item, ...]
    rows: int

    @property
    def distinct_read(self) -> int:
        """KV tokens read, each shared run counted once."""
        return sum(item.length for item in self.items)

    @property
    def total_read(self) -> int:
        """KV tokens read if every request read its own."""
        return sum(span.chunk.end for span in self.spans)


def lay_out(chunks: Sequence[Chunk], version: int, page_size: int) -> Layout:
    """Pack chunks in tree order and list their items."""
    paths = [(chunk.request.nodes(version), chunk) for chunk in chunks]
    paths.sort(key=lambda p: [node.id for node in p[0]])
    spans: list[Span] = []
    row = 0
    for path, chunk in paths:
        spans.append(Span(chunk, row, tuple(path)))
        row += chunk.count
    items: list[Item] = []
    _walk(spans, 0, len(spans), 0, 0, page_size, items)
    return Layout(tuple(spans), tuple(items), row)


def _walk(
    spans: list[Span], first: int, last: int, depth: int, position: int, size: int, out: list[Item]
) -> None:
    """Items of spans `first` to `last`, which share their path down to `depth`."""
    at = first
    while at < last:
        path = spans[at].path
        if len(path) == depth:
            _private(spans[at], (), position, size, out)
            at += 1
            continue
        node, end = path[depth], at + 1
        while end < last and len(spans[end].path) > depth and spans[end].path[depth] is node:
            end += 1
        _group(spans, at, end, depth, position, size, out)
        at = end


def _group(
    spans: list[Span], first: int, last: int, depth: int, position: int, size: int, out: list[Item]
) -> None:
    """One item for the nodes that all these spans share, then whatever hangs below them."""
    head, tail = spans[first].path, spans[last - 1].path
    pages: list[tuple[int, int]] = []
    length = 0
    while depth < len(head) and depth < len(tail) and head[depth] is tail[depth]:
        pages += head[depth].runs()
        length += len(head[depth].tokens)
        depth += 1
    runs = _join(cut_runs(pages, 0, length, size))
    if last - first == 1:
        _private(spans[first], runs, position, size, out)
        return
    row = spans[first].row
    rows = spans[last - 1].row + spans[last - 1].chunk.count - row
    out.append(Item(row, rows, runs, position, length))
    _walk(spans, first, last, depth, position + length, size, out)


def _private(span: Span, runs: tuple[Run, ...], position: int, size: int, out: list[Item]) -> None:
    """A request's own items: everything before the chunk, and the chunk itself."""
    chunk = span.chunk
    request = chunk.request
    past_end = chunk.start if chunk.count > 1 else chunk.end
    past = _join([*runs, *request.runs(request.shared, past_end, size)])
    length = past_end - position
    if length > 0:
        out.append(Item(span.row, chunk.count, past, position, length))
    if chunk.count > 1:
        own = _join(request.runs(chunk.start, chunk.end, size))
        out.append(Item(span.row, chunk.count, own, chunk.start, chunk.count, causal=True))


def _join(runs: Sequence[Run]) -> tuple[Run, ...]:
    joined: list[Run] = []
    for start, length in runs:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return tuple(joined)
