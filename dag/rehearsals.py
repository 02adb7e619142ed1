"""Rehearsals of one batch, in several orders of its rows and with its models in several places."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import inf

from .keys import value_key
from .logical import Plan
from .numbering import Row
from .ordering import Order
from .rehearsed import Rehearsed
from .trials import Trials


class Rehearsals:
    """Of plans that differ in their placement only: one for each order of their rows that is asked
    for, up to a number.

    Rows that hold the same are alike: orders that only exchange them are one.
    """

    def __init__(
        self, plans: Sequence[Plan], rows: Sequence[Row | None],
        rehearsed: Callable[[Plan], Rehearsed],
    ) -> None:  # fmt: skip
        self._plans, self._rehearsed = plans, rehearsed
        self._alike = [value_key(dict(row) if row is not None else None) for row in rows]
        self.most = 1
        """Rehearsals that there is time for."""
        self.found: dict[tuple[int, tuple[Hashable, ...]], float] = {}

    @property
    def left(self) -> int:
        """Of them, those that are left."""
        return self.most - len(self.found)

    def begin(self, order: Order) -> Rehearsed:
        """Rehearse the first order on the first placement."""
        first = self._rehearsed(self.plan(0, order))
        self.found[self._key(0, order)] = first.seconds
        return first

    def seconds(self, place: int, order: Order) -> float:
        """Until the last answer on that placement; infinite where there is no time to find out."""
        key = self._key(place, order)
        if key not in self.found:
            if self.left <= 0:
                return inf
            self.found[key] = self._rehearsed(self.plan(place, order)).seconds
        return self.found[key]

    def places(self, order: Order, most: int) -> list[int]:
        """Numbers of the first `most` placements that there is time for, those first that are
        quickest with this order."""
        known = {place: self.seconds(place, order) for place in range(len(self._plans))[:most]}
        return sorted((p for p, seconds in known.items() if seconds < inf), key=known.__getitem__)

    def plan(self, place: int, order: Order) -> Plan:
        """In this order, on that placement."""
        return ordered(self._plans[place], order)

    def orders(self, most: int) -> list[Order]:
        """The orders that there are, the first `most` of them."""
        return list(islice(unlike(self._alike), most))

    def told(self, place: int, order: Order, first: Rehearsed, as_given: Order) -> Trials:
        """What has come of it, if that order is taken on that placement."""
        here = sum(one == place for one, _ in self.found)
        given, found = self.found.get(self._key(place, as_given)), self.found.values()
        return Trials(
            len(found), here == len(self.orders(here + 1)), self.seconds(place, order),
            first.seconds, given, max(found), len({one for one, _ in self.found}),
        )  # fmt: skip

    def _key(self, place: int, order: Order) -> tuple[int, tuple[Hashable, ...]]:
        return place, tuple(map(self._alike.__getitem__, order))


def ordered(plan: Plan, order: Order) -> Plan:
    """A plan of one part whose rows start in this order."""
    column = None if list(order) == list(range(plan.rows)) else array("i", order)
    return replace(plan, parts=(replace(plan.parts[0], order=column),))


def unlike(alike: Sequence[Hashable]) -> Iterator[Order]:
    """All orders of rows, given what each row holds: of those that only exchange rows that hold the
    same, one."""
    left: dict[Hashable, list[int]] = {}
    for place in reversed(range(len(alike))):
        left.setdefault(alike[place], []).append(place)
    order: list[int] = []

    def orders() -> Iterator[Order]:
        if len(order) == len(alike):
            yield tuple(order)
        for places in left.values():
            if places:
                order.append(places.pop())
                yield from orders()
                places.append(order.pop())

    return orders()
