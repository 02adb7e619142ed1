"""Which pages of a KV pool are free, and handing them out in runs that lie side by side.

Neighbouring pages matter on every device: attention reads a run of slots as one view, without
copying, so a request's pages are kept together as long as there is room.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable


class OutOfPages(Exception):
    """More pages were asked for than are free."""


class PageAllocator:
    """Free pages as extents `[start, start + length)`, sorted and never touching each other."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"a pool needs at least one page, not {total}")
        self.total = total
        self.free = total
        self._starts = [0]
        self._lengths = {0: total}

    def take(self, count: int, after: int | None = None) -> list[int]:
        """`count` pages, continuing right behind page `after` when those are free."""
        if count > self.free:
            raise OutOfPages(f"{count} pages asked for, {self.free} of {self.total} free")
        pages: list[int] = []
        if after is not None:
            pages += self._take_at(after + 1, count)
        while len(pages) < count:
            need = count - len(pages)
            start = self._best_start(need)
            pages += self._take_at(start, min(need, self._lengths[start]))
        self.free -= count
        return pages

    def give(self, pages: Iterable[int]) -> None:
        """Take pages back."""
        for start, length in runs_of(sorted(pages)):
            self._give_run(start, length)

    def extents(self) -> list[tuple[int, int]]:
        """Free (start, length) extents, lowest first."""
        return [(s, self._lengths[s]) for s in self._starts]

    def _best_start(self, need: int) -> int:
        """The tightest extent that holds `need` pages, or the longest one."""
        lengths = self._lengths
        best = -1
        longest = self._starts[0]
        for start in self._starts:
            length = lengths[start]
            if length >= need and (best < 0 or length < lengths[best]):
                best = start
                if length == need:
                    break
            if length > lengths[longest]:
                longest = start
        return best if best >= 0 else longest

    def _take_at(self, page: int, count: int) -> list[int]:
        """Up to `count` free pages from `page` on; none when `page` is not free."""
        at = bisect_right(self._starts, page) - 1
        if at < 0:
            return []
        start = self._starts[at]
        length = self._lengths[start]
        if page >= start + length:
            return []
        taken = min(count, start + length - page)
        before, behind = page - start, start + length - page - taken
        if before:
            self._lengths[start] = before
        else:
            del self._starts[at], self._lengths[start]
        if behind:
            insort(self._starts, page + taken)
            self._lengths[page + taken] = behind
        return list(range(page, page + taken))

    def _give_run(self, start: int, length: int) -> None:
        at = bisect_left(self._starts, start)
        end = start + length
        assert at == len(self._starts) or end <= self._starts[at], f"page {start} freed twice"
        assert start >= 0 and end <= self.total, f"page {start} is not of this pool"
        self.free += length
        if at < len(self._starts) and self._starts[at] == end:
            length += self._lengths.pop(end)
            del self._starts[at]
        if at:
            left = self._starts[at - 1]
            left_end = left + self._lengths[left]
            assert left_end <= start, f"page {start} freed twice"
            if left_end == start:
                self._lengths[left] += length
                return
        self._starts.insert(at, start)
        self._lengths[start] = length


def runs_of(pages: Iterable[int]) -> list[tuple[int, int]]:
    """Pages in order as (first page, count) runs of neighbours."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and runs[-1][0] + runs[-1][1] == page:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    return runs
