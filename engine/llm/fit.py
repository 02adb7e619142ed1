"""Factors of a sum from measurements: least squares in which no factor is below zero."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

MOST = 8
"""Factors at most: all choices of those that differ from zero are tried."""


def fit(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """The factors of `seconds = sum(factor x number)`, row by row, none of them below zero.

    Rows are weighted by 1 / seconds, so that short steps count as much as long ones. What is found
    is the best there is: where factors are bounded by zero, the best sum is the plain least squares
    of those that are above it, so the best of all such choices is it.
    """
    weights = 1.0 / torch.tensor(seconds, dtype=torch.float64)
    table = torch.tensor(rows, dtype=torch.float64) * weights[:, None]
    scale = table.norm(dim=0).clamp_min(1e-300)  # tokens x context beside ones: far apart in size
    table = table / scale
    count, wanted = table.shape[1], torch.ones(len(table), 1, dtype=torch.float64)
    assert count <= MOST, "every further factor doubles the choices"
    best, least = torch.zeros(count, dtype=torch.float64), float(len(table))
    for size in range(1, count + 1):
        for kept in map(list, combinations(range(count), size)):
            found = torch.linalg.lstsq(table[:, kept], wanted).solution
            error = float((table[:, kept] @ found - wanted).square().sum())
            if error < least and float(found.min()) >= 0:
                least = error
                best = torch.zeros(count, dtype=torch.float64)
                best[kept] = found[:, 0]
    return [float(factor) for factor in best / scale]
