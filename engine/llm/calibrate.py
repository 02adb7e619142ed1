"""Measuring what a model costs on this device: a few seconds once, then read from disk.

One fit over the engine's own steps, those that prefill and those that decode: seconds are a
constant that every step has, and terms for prefill tokens, their context, requests that decode and
KV tokens that they read. So a step that does both costs the constant once. The peaks are the
fastest product and the fastest read that torch does here, whichever way: they are what utilisation
is measured against, and what steps that would take too long to time are reckoned by.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import torch

from ...cache.pages import PageAllocator
from ...dag.errors import first_line
from ...dag.sampling import Sampling
from . import cost_file
from .attention.plan import lay_out
from .costs import Costs
from .fit import fit
from .forward import Runner
from .model import LoadedModel
from .native import native
from .peaks import contended, device_name, matmul_peak, memory_peak, product_size, time_of
from .pool import Pool
from .request import Chunk, Request
from .work import Work

log = logging.getLogger("plait")
SECONDS = {"cpu": 1.5, "cuda": 4.0}
"""About how long timing the steps of a model may take: on a GPU more of them are timed."""
COPY_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20}
"""How much KV is copied to learn the speed of the host tier, and of starting copies on a GPU."""

Point = tuple[int, int, int]
"""A step: (requests, tokens each computes, tokens cached before them)."""
PREFILLS: tuple[Point, ...] = ((1, 64, 0), (1, 64, 1024), (1, 256, 0), (1, 256, 512), (1, 512, 0))
DECODES: tuple[Point, ...] = (
    (1, 1, 64), (1, 1, 1024), (8, 1, 64), (8, 1, 512), (32, 1, 64), (32, 1, 512),
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
        except Exception as error:  # a model that runs is worth more than its costs
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
    points = _points(place, loaded.max_context - 2)
    seconds = [s for kind in points for s in steps.take(kind)]
    step, token, token_context, decode_row, kv_token = fit(
        [terms(point) for kind in points for point in kind], seconds
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
    """Synthetic steps through the engine's own plan and forward, in pages that are free."""

    def __init__(
        self,
        loaded: LoadedModel,
        runner: Runner,
        free: PageAllocator,
        work: Work,
        peaks: tuple[float, float],
        budget: float,
    ) -> None:
        self._loaded = loaded
        self._runner = runner
        self._free = free
        self._work = work
        self._peaks = peaks
        self._end = time.perf_counter() + budget
        self._each = budget / 10

    def take(self, points: Sequence[Point]) -> list[float]:
        """Seconds of each step, the small ones first: timed where that is possible."""
        times: list[float] = []
        ratio = 2.0
        for point in points:
            least = self._least(point)
            guess = ratio * least
            left = self._end - time.perf_counter()
            if 2 * guess < left and self._pages(point) <= self._free.free:
                guess = self._seconds(point, min(left, self._each))
                ratio = guess / least
            times.append(guess)
        return times

    def _least(self, point: Point) -> float:
        """Seconds of a step at the measured peaks."""
        rows, count, context = point
        flops = self._work.flops_of([(context, count)] * rows, rows)
        data = self._work.bytes_of(rows * (context + count))
        return max(flops / self._peaks[0], data / self._peaks[1])

    def _pages(self, point: Point) -> int:
        rows, count, context = point
        return rows * -(-(context + count) // self._runner.pool.page_size)

    def _seconds(self, point: Point, limit: float) -> float:
        with self._requests(point) as requests:
            _, count, context = point
            chunks = [Chunk(request, context, count) for request in requests]
            layout = lay_out(chunks, 0, self._runner.pool.page_size)
            return time_of(lambda: self._runner.run(layout), self._loaded.device, limit)

    @contextmanager
    def _requests(self, point: Point) -> Iterator[list[Request]]:
        """Requests that have all they need to compute the step."""
        rows, count, context = point
        length, vocab = context + count, self._loaded.vocab_size
        requests: list[Request] = []
        for number in range(rows):
            tokens = tuple((number * 7 + i) % vocab for i in range(length))
            request = Request(number, tokens, Sampling(), 0, 0.0, computed=context)
            request.pages = self._free.take(self._pages((1, count, context)))
            requests.append(request)
        try:
            yield requests
        finally:
            for request in requests:
                self._free.give(request.pages)


def _version() -> str:
    try:
        return version("plait")
    except PackageNotFoundError:
        return ""
