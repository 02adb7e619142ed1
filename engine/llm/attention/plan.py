"""What attention has to read in one step, as items: a range of query rows x runs of KV slots.

Rows are packed so that requests below one tree node are neighbours. Each tree node is then one
item for all rows below it, each private tail one item, and each prefill chunk one causal item.
Plain Python: the back ends turn items into device calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from ....cache.node import Node
from ..request import Chunk, Run, cut_runs

_serials = count()


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
    tail: bool = False
    """One row's own newest tokens: a slot longer after every decode step."""

    def longer(self, by: int) -> Item:
        """A tail after so many more steps."""
        start, length = self.runs[-1]
        runs = (*self.runs[:-1], (start, length + by))
        return replace(self, runs=runs, length=self.length + by)


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunks in packing order, with the items they need.

    While the same requests decode on, a layout is advanced instead of made anew.
    """

    chunks: tuple[Chunk, ...]
    base: tuple[Item, ...]
    """Items of the step that the layout was made for."""
    rows: int
    order: tuple[int, ...]
    """Which scheduled chunk comes at each place."""
    horizon: int
    """How many steps it can be advanced: 0 unless every chunk is one token of decode."""
    serial: int
    grown: int = 0
    """How many steps it was advanced: its tails are so much longer."""

    @property
    def items(self) -> Iterable[Item]:
        if not self.grown:
            return self.base
        return [item.longer(self.grown) if item.tail else item for item in self.base]

    def advance(self, chunks: Sequence[Chunk]) -> Layout:
        """The next decode step of the same requests, scheduled in the same order."""
        assert self.grown < self.horizon and len(chunks) == self.rows
        packed = tuple([chunks[i] for i in self.order])
        assert packed[0].request is self.chunks[0].request, "scheduled in another order"
        return replace(self, chunks=packed, grown=self.grown + 1)

    @property
    def distinct_read(self) -> int:
        """KV tokens read, each shared run counted once."""
        return sum(i.length + self.grown * i.tail for i in self.base)

    @property
    def total_read(self) -> int:
        """KV tokens read if every request read its own."""
        return sum(chunk.end for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one chunk and the way from the root to its own pages."""

    chunk: Chunk
    row: int
    path: list[Node]


def lay_out(chunks: Sequence[Chunk], version: int, page_size: int) -> Layout:
    """Pack chunks in tree order and list their items."""
    paths = [chunk.request.nodes(version) for chunk in chunks]
    order = sorted(range(len(chunks)), key=lambda i: [node.id for node in paths[i]])
    spans: list[Span] = []
    row = 0
    for i in order:
        spans.append(Span(chunks[i], row, paths[i]))
        row += chunks[i].count
    items: list[Item] = []
    _walk(spans, 0, len(spans), 0, 0, page_size, items)
    return Layout(
        chunks=tuple(span.chunk for span in spans),
        base=tuple(items),
        rows=row,
        order=tuple(order),
        horizon=_horizon(chunks, page_size),
        serial=next(_serials),
    )


def alone(rows: int) -> Layout:
    """Rows that each see themselves alone: row i is at position i, in slot i."""
    items = tuple(Item(i, 1, ((i, 1),), i, 1) for i in range(rows))
    return Layout((), items, rows, tuple(range(rows)), horizon=0, serial=next(_serials))


def _horizon(chunks: Sequence[Chunk], page_size: int) -> int:
    """Decode steps until some request's next slot does not lie behind its newest one."""
    if not all(c.count == 1 and c.samples for c in chunks):
        return 0
    return min((c.request.slots_ahead(c.start, page_size) for c in chunks), default=0)


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
        tail = chunk.count == 1
        out.append(Item(span.row, chunk.count, past, position, length, tail=tail))
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
