"""Measuring what a model costs on this device: a few seconds once, then read from disk.

One fit over the engine's own steps, those that prefill and those that decode: seconds are a
constant that every step has, and terms for prefill tokens, their context, requests that decode and
KV tokens that they read. So a step that does both costs the constant once. Steps are timed whole,
with scheduling before the forward and taking the tokens behind it, with few requests and with as
many as a batch has at once, and in rounds: what counts is the median, for what a machine does at
its best for a moment says too little of what a run takes. The peaks are the
fastest product and the fastest read that torch does here, whichever way: they are what utilisation
is measured against, and what steps that would take too long to time are reckoned by.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from statistics import mean, median

import torch

from ...cache.pages import PageAllocator
from ...dag.errors import first_line
from . import cost_file
from .costs import Costs
from .feigned import DECODED, Feigned
from .fit import fit
from .forward import Runner
from .model import LoadedModel
from .native import native
from .peaks import contended, device_name, matmul_peak, memory_peak, product_size, time_of
from .pool import Pool
from .work import Work

log = logging.getLogger("plait")
SECONDS = {"cpu": 3.0, "cuda": 5.0}
"""About how long timing the steps of a model may take: on a GPU more of them are timed."""
ROUNDS = 3
"""How often all steps are timed, while there is time: a machine has quicker and slower moments."""
COPY_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20}
"""How much KV is copied to learn the speed of the host tier, and of starting copies on a GPU."""

Point = tuple[int, int, int]
"""A step: (requests, tokens each computes, tokens cached before them)."""
PREFILLS: tuple[Point, ...] = (
    (1, 64, 0), (1, 64, 1024), (1, 256, 0), (1, 256, 512), (1, 512, 0), (16, 48, 0),
)  # fmt: skip
DECODES: tuple[Point, ...] = (
    (1, 1, 64), (1, 1, 1024), (8, 1, 64), (8, 1, 512), (32, 1, 64), (32, 1, 512),
    (128, 1, 64), (128, 1, 256), (256, 1, 128),
)  # fmt: skip
LARGER: tuple[Point, ...] = ((1, 2048, 0), (1, 2048, 2048), (128, 1, 512), (256, 1, 1024))
"""On a GPU: smaller steps take as long as starting them takes, whatever is in them."""


def conditions(loaded: LoadedModel) -> cost_file.Conditions:
    """What the costs of a model on this device depend on."""
    return cost_file.Conditions(
        model=loaded.name,
        content=cost_file.content_of(loaded.name),
        device=device_name(loaded.device),
        dtype=str(loaded.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        kernels=loaded.device.type == "cpu" and native().library is not None,
        torch=torch.__version__,
        plait=_version(),
    )


def find(loaded: LoadedModel, runner: Runner, free: PageAllocator, work: Work, ask: bool) -> Costs:
    """Costs on disk, else measured if that is asked for, else the defaults. What was measured on a
    busy machine is measured again when it is calm.

    To be called on the thread that computes: torch's number of threads, by which costs are kept,
    is a thread's own.
    """
    known = cost_file.read(conditions(loaded))
    found = known.costs if known is not None else None
    if ask and (known is None or (known.busy and not contended())):
        try:
            found = measure_and_keep(loaded, runner, free, work)
        except BaseException as error:  # a model that runs is worth more than its costs
            log.warning("costs could not be measured: %s", first_line(error))
    if found is not None:
        return replace(found, load=loaded.seconds)
    return Costs(kv_bytes=runner.pool.bytes_per_token, load=loaded.seconds)


def measure_and_keep(loaded: LoadedModel, runner: Runner, free: PageAllocator, work: Work) -> Costs:
    busy = contended()
    costs = measure(loaded, runner, free, work, SECONDS[loaded.device.type])
    cost_file.write(cost_file.Known(conditions(loaded), costs, busy))
    return costs


def wanted(calibrate: bool | None) -> bool:
    """Whether a model without known costs is to be measured: as said, else by the environment."""
    if calibrate is not None:
        return calibrate
    return os.environ.get("PLAIT_CALIBRATE", "").lower() not in ("0", "no", "off", "false")


def measure(
    loaded: LoadedModel, runner: Runner, free: PageAllocator, work: Work, budget: float
) -> Costs:
    """Time steps of the model in free pages of its own pool, and fit them.

    Steps that would not fit, into the pages or into `budget` seconds, are reckoned from the peaks
    and from how far the steps before them were from those.
    """
    place = loaded.device
    matmul, memory = matmul_peak(place, loaded.dtype, product_size(place)), memory_peak(place)
    steps = _Steps(loaded, runner, free, work, (matmul, memory), budget)
    seconds = steps.take(_points(place, loaded.max_context - DECODED))
    step, token, token_context, decode_row, kv_token = fit(
        [terms(point) for point in seconds], list(seconds.values())
    )
    offload, restore = copy_rates(runner.pool)
    return Costs(
        step=step,
        token=token,
        token_context=token_context,
        decode_row=decode_row,
        kv_token=kv_token,
        offload=offload,
        restore=restore,
        kv_bytes=runner.pool.bytes_per_token,
        load=loaded.seconds,
        matmul_peak=matmul,
        memory_peak=memory,
    )


def terms(point: Point) -> list[float]:
    """What a step has of everything that costs: itself, prefill tokens, those x their context,
    requests that decode, KV tokens that they read. In the order of `Costs`, and as it counts."""
    rows, count, context = point
    if count == 1:
        return [1.0, 0.0, 0.0, rows, rows * context]
    return [1.0, rows * count, rows * count * (context + count / 2), 0.0, 0.0]


def _points(device: torch.device, longest: int) -> tuple[list[Point], list[Point]]:
    """Steps to be timed that a context of `longest` tokens has room for: decoding, prefilling."""
    larger = LARGER if device.type == "cuda" else ()
    fitting = [p for p in (*DECODES, *PREFILLS, *larger) if p[1] + p[2] <= longest]
    return [p for p in fitting if p[1] == 1], [p for p in fitting if p[1] > 1]


def describe(costs: Costs) -> list[str]:
    """Costs in words, for `plait doctor`."""
    return [
        f"peaks: {costs.matmul_peak / 1e9:.0f} GFLOP/s, {costs.memory_peak / 1e9:.0f} GB/s read",
        f"prefill of 512 tokens: {costs.prefill_seconds(512) * 1e3:.1f} ms, behind 2048 cached "
        f"ones {costs.prefill_seconds(512, 2048) * 1e3:.1f} ms",
        f"decode step: {costs.decode_seconds(1, 512) * 1e3:.1f} ms for one request, "
        f"{costs.decode_seconds(32, 32 * 512) * 1e3:.1f} ms for 32, 512 tokens of context each",
        f"KV: {costs.kv_bytes} bytes a token, to the host {costs.offload / 1e9:.1f} GB/s and back "
        f"{costs.restore / 1e9:.1f} GB/s; loading took {costs.load:.1f} s",
    ]


def copy_rates(pool: Pool) -> tuple[float, float]:
    """Bytes per second to the host tier and back, in a small pool of the same shape."""
    size = pool.page_size * pool.bytes_per_token
    pages = list(range(max(1, min(64, COPY_BYTES[pool.device.type] // size))))
    small = Pool(
        pool.layers, len(pages), pool.page_size, pool.device, pool.dtype, host_pages=len(pages)
    )
    out = time_of(lambda: small.offload(pages, pages), pool.device)
    back = time_of(lambda: small.restore(pages, pages), pool.device)
    return len(pages) * size / out, len(pages) * size / back


class _Steps:
    """The engine's own steps, timed in pages that are free, and reckoned where that cannot be."""

    def __init__(
        self, loaded: LoadedModel, runner: Runner, free: PageAllocator, work: Work,
        peaks: tuple[float, float], budget: float,
    ) -> None:  # fmt: skip
        self._feigned = Feigned(loaded, runner, free, work)
        self._page_size = runner.pool.page_size
        self._free = free
        self._work = work
        self._peaks = peaks
        self._began = time.perf_counter()
        self._budget = budget
        self._each = budget / 10
        self._met: set[Point] = set()

    def take(self, kinds: Sequence[Sequence[Point]]) -> dict[Point, float]:
        """Seconds of each step, of every kind the small ones first: timed where that is possible,
        else reckoned from the one before. No kind takes the time of the next."""
        timed: dict[Point, list[float]] = {}
        found: dict[Point, float] = {}
        for number in range(ROUNDS):
            for kind, points in enumerate(kinds, 1):
                end = self._began + self._budget * (kind / len(kinds) if number == 0 else 1)
                ratio = 2.0
                for point in points:
                    least = self._least(point)
                    guess = found.get(point, ratio * least)
                    if self._possible(point, guess, end):
                        timed.setdefault(point, []).append(self._time(point, guess))
                        guess = median(timed[point])
                    found[point], ratio = guess, guess / least
        return found

    def _least(self, point: Point) -> float:
        """Seconds of a step at the measured peaks."""
        rows, count, context = point
        flops = self._work.flops_of([(context, count, True)] * rows)
        data = self._work.bytes_of(rows * (context + count))
        return max(flops / self._peaks[0], data / self._peaks[1])

    def _possible(self, point: Point, guess: float, end: float) -> bool:
        """Whether there are pages for it, and time: it may take twice as long."""
        rows, count, context = point
        pages = rows * -(-(context + count + DECODED) // self._page_size)
        return 2 * guess < end - time.perf_counter() and pages <= self._free.free

    def _time(self, point: Point, guess: float) -> float:
        """Seconds of a step. Of those that decode the mean of some in a row, where they are short:
        the first one is laid out anew, as happens in a run whenever a request begins or ends. A
        point's very first step is not counted unless it is long: its memory is new, and faulted in,
        which takes as long again for a short one."""
        rows, count, context = point
        new = point not in self._met
        self._met.add(point)
        if count > 1:
            if new and guess <= self._each:
                self._feigned.prefill(rows, count, context)
            return self._feigned.prefill(rows, count, context)
        if DECODED * guess > self._each:
            return self._feigned.decode(rows, context, 2)[-1]
        if new:
            self._feigned.decode(rows, context, 1)
        return mean(self._feigned.decode(rows, context, DECODED))


def _version() -> str:
    try:
        return version("plait")
    except PackageNotFoundError:
        return ""
