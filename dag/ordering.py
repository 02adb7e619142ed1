"""What an order of rows costs in tokens under so much KV memory, and searching for a better one.

A row needs the prefixes that its prompts run through. What memory does not hold is computed; what
memory cannot hold any more is evicted from its end, latest next use first. Tokens are all of one
size and one price, so no other choice of what to keep computes fewer (Belady, IBM Systems Journal
5(2), 1966): the order alone is searched for.

Rows do not really wait for each other. Of orders that compute the same, the better one is that
which computes less when every row begins while the one before it awaits an answer or a tool.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice, repeat
from operator import ne

from .numbers import Column
from .prefixes import Group

Order = Sequence[int]
Price = Callable[[Order], float]
NEVER = 1 << 60
"""Next use of what no row will ask for."""
LONGEST_RUN = 3
"""Rows that are moved together."""
LAG = 1.5
"""Begins of rows that pass between two calls of a row, when rows overlap."""
TIE = 1e-6
"""What a token of overlapping rows counts beside one that is surely computed."""


class Footprints:
    """The prefixes every row needs, parents before what continues them."""

    def __init__(
        self, groups: Sequence[Group], rows: int, memory: float | None = None,
        classes: Mapping[str, Column] | None = None,
    ) -> None:  # fmt: skip
        """memory: tokens; None stands for as much as the largest row needs. classes: by node, the
        calls of all rows by number; a call that an earlier row has made needs nothing."""
        self.tokens: dict[int, float] = {}
        calls = []
        for group in groups:
            for column, tokens in zip(group.columns, group.tokens, strict=True):
                # -1: the row has come to no slot yet, and shares what all do
                new = set(column) - self.tokens.keys() - {-1}
                self.tokens |= dict.fromkeys(new, tokens)
            made = (classes or {}).get(group.node)
            prefixes = [
                tuple(number for number in way if number >= 0) if -1 in way else way
                for way in zip(*group.columns, strict=True)
            ]
            calls.append(list(zip(made or repeat(None, rows), prefixes, strict=True)))
        self.rows = list(zip(*calls, strict=True))
        """By row: its calls, each with its prefixes. None is a call that nobody else makes."""
        least = max((sum(map(self.tokens.__getitem__, n)) for n in self._sets()), default=0.0)
        self.memory = least if memory is None else max(memory, least)

    @property
    def ample(self) -> bool:
        """Whether nothing has to go, so that every order computes the same."""
        return self.memory >= sum(self.tokens.values())

    def _sets(self) -> list[set[int]]:
        """What each row needs if it makes all its calls."""
        return [{n for _, needed in row for n in needed} for row in self.rows]

    def needed(self, order: Order) -> list[list[int]]:
        """The prefixes that each row in this order needs for the calls that it is first to make."""
        made: set[int] = set()
        out = []
        for row in order:
            numbers: dict[int, None] = {}
            for call, prefixes in self.rows[row]:
                if call is None or call not in made:
                    numbers.update(dict.fromkeys(prefixes))
            made.update(call for call, _ in self.rows[row] if call is not None)
            out.append(list(numbers))
        return out

    def computed(self, order: Order) -> float:
        """Tokens that rows in this order compute."""
        needed = self.needed(order)
        uses: dict[int, list[int]] = {}
        for place in range(len(needed) - 1, -1, -1):
            for number in needed[place]:
                uses.setdefault(number, []).append(place)
        held: dict[int, float] = {}
        by_use: list[tuple[int, int]] = []
        """What is held, the latest next use first, and behind that uses that are over."""
        total = size = 0.0
        for numbers in needed:
            for number in numbers:
                missing = self.tokens[number] - held.get(number, 0.0)
                held[number] = self.tokens[number]
                total, size = total + missing, size + missing
                left = uses[number]
                left.pop()
                heappush(by_use, (-left[-1] if left else -NEVER, -number))
            if size > self.memory:
                size = self._evict(held, uses, by_use, size)
        return total

    def price(self, order: Order) -> float:
        """What orders are compared by."""
        return self.computed(order) + TIE * self.overlapped(order)

    def overlapped(self, order: Order) -> float:
        """Tokens that rows in this order compute when they overlap, and memory keeps what was
        needed last. The calls of a row are taken to come one after the other."""
        calls = sorted(
            (place + LAG * number, place, call, prefixes)
            for place, row in enumerate(order)
            for number, (call, prefixes) in enumerate(self.rows[row])
        )
        made: set[int] = set()
        held: dict[int, float] = {}
        total = size = 0.0
        for _, _, call, prefixes in calls:
            if call is not None:
                if call in made:
                    continue
                made.add(call)
            for number in reversed(prefixes):  # what is needed by more comes to lie behind
                missing = self.tokens[number] - held.pop(number, 0.0)
                held[number] = self.tokens[number]
                total, size = total + missing, size + missing
            while held and size > self.memory:
                number = next(iter(held))
                gone = min(held[number], size - self.memory)
                size, held[number] = size - gone, held[number] - gone
                if held[number] <= 0.0:
                    del held[number]
        return total

    def _evict(
        self, held: dict[int, float], uses: Mapping[int, Sequence[int]],
        by_use: list[tuple[int, int]], size: float,
    ) -> float:  # fmt: skip
        """Let go what is needed last, until the rest fits; of two, what continues the other."""
        while held and size > self.memory:
            next_use, number = -by_use[0][0], -by_use[0][1]
            if number in held and next_use == (uses[number][-1] if uses[number] else NEVER):
                gone = min(held[number], size - self.memory)
                size, held[number] = size - gone, held[number] - gone
                if held[number] > 0.0:
                    break
                del held[number]
            heappop(by_use)
        return size

    def apart(self) -> list[list[float]]:
        """Tokens that a row computes behind another one, with memory for no more than the two."""
        sets = self._sets()
        weigh = self.tokens.__getitem__
        size = [sum(map(weigh, one)) for one in sets]
        common = [[sum(map(weigh, one & two)) for two in sets] for one in sets]
        return [
            [(size[a] + size[b]) / 2 - common[a][b] for b in range(len(sets))]
            for a in range(len(sets))
        ]


def search(starts: Sequence[Order], price: Price, tries: int) -> list[int]:
    """The cheapest order found in so many tries: moves that help are kept, from the best start on.

    When no move helps any more, the best order so far is shaken and improved again.
    """
    rng = random.Random(0)
    priced = sorted(((price(start), list(start)) for start in starts), key=lambda p: p[0])
    best_price, best = priced[0]
    left = tries
    for known, start in priced:
        left, found_price, found = climb(start, known, price, left)
        if found_price < best_price:
            best_price, best = found_price, found
    while left > 0 and len(best) > 3:
        shaken = shake(best, rng)
        left, found_price, found = climb(shaken, price(shaken), price, left - 1)
        if found_price < best_price:
            best_price, best = found_price, found
    return best


def climb(order: list[int], known: float, price: Price, left: int) -> tuple[int, float, list[int]]:
    """Take the first move that helps, until none does or the tries are used up."""
    helped = True
    while helped and left > 0:
        helped = False
        for tried in moves(order):
            left -= 1
            cost = price(tried)
            if cost < known - 1e-9:
                order, known, helped = tried, cost, True
                break
            if left <= 0:
                break
    return left, known, order


def moves(order: Sequence[int]) -> Iterator[list[int]]:
    """Orders one move away: a short run elsewhere, or a run turned around."""
    size = len(order)
    for start in range(size):
        for end in range(start + 1, min(start + LONGEST_RUN, size - 1) + 1):
            run, rest = order[start:end], [*order[:start], *order[end:]]
            for at in range(len(rest) + 1):
                if at != start:
                    yield [*rest[:at], *run, *rest[at:]]
        for end in range(start + 3, size + 1):
            yield [*order[:start], *reversed(order[start:end]), *order[end:]]


def shake(order: Sequence[int], rng: random.Random) -> list[int]:
    """The order cut in four, with the two middle parts exchanged."""
    a, b, c = sorted(rng.sample(range(len(order) + 1), 3))
    return [*order[:a], *order[b:c], *order[a:b], *order[c:]]


def new_tokens(groups: Sequence[Group], order: Order) -> float:
    """Prompt tokens behind what each row has in common with the row before it: a quick measure for
    batches that are too large to be gone through many times."""
    total = 0.0
    for group in groups:
        for column, tokens in zip(group.columns, group.tokens, strict=True):
            numbers = list(map(column.__getitem__, order))
            total += tokens * sum(map(ne, numbers, islice(numbers, 1, None)))
    return total
