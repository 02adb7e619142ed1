"""Measuring what a model costs on this device: a few seconds once, then read from disk.

Prefill time is fitted over tokens and context, decode time over requests and KV tokens read, both
by least squares over the engine's own steps. The peaks are the fastest product and the fastest
read that torch does here, whichever way: they are what utilisation is measured against, and what
steps that would take too long to time are reckoned by.
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
from .forward import Runner
from .model import LoadedModel
from .peaks import contended, device_name, matmul_peak, memory_peak, product_size, time_of
from .pool import Pool
from .request import Chunk, Request
from .work import Work

log = logging.getLogger("plait")
SECONDS = 1.5
"""About how long timing the steps of a model may take."""
COPY_BYTES = 8 << 20
"""How much KV is copied to learn the speed of the host tier."""

Point = tuple[int, int, int]
"""A step: (requests, tokens each computes, tokens cached before them)."""
PREFILLS: tuple[Point, ...] = ((1, 64, 0), (1, 64, 1024), (1, 256, 0), (1, 256, 512), (1, 512, 0))
DECODES: tuple[Point, ...] = (
    (1, 1, 64), (1, 1, 1024), (8, 1, 64), (8, 1, 512), (32, 1, 64), (32, 1, 512),
)  # fmt: skip


def conditions(loaded: LoadedModel) -> cost_file.Conditions:
    """What the costs of a model on this device depend on."""
    return cost_file.Conditions(
        model=loaded.name,
        content=cost_file.content_of(loaded.name),
        device=device_name(loaded.device),
        dtype=str(loaded.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
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
    costs = measure(loaded, runner, free, work)
    cost_file.write(cost_file.Known(conditions(loaded), costs, busy))
    return costs


def wanted(calibrate: bool | None) -> bool:
    """Whether a model without known costs is to be measured: as said, else by the environment."""
    if calibrate is not None:
        return calibrate
    return os.environ.get("PLAIT_CALIBRATE", "").lower() not in ("0", "no", "off", "false")


def measure(
    loaded: LoadedModel, runner: Runner, free: PageAllocator, work: Work, budget: float = SECONDS
) -> Costs:
    """Time steps of the model in free pages of its own pool, and fit them.

    Steps that would not fit, into the pages or into `budget` seconds, are reckoned from the peaks
    and from how far the steps before them were from those.
    """
    place = loaded.device
    matmul, memory = matmul_peak(place, loaded.dtype, product_size(place)), memory_peak(place)
    steps = _Steps(loaded, runner, free, work, (matmul, memory), budget)
    longest = loaded.max_context - 2
    decodes = [p for p in DECODES if p[1] + p[2] <= longest]
    prefills = [p for p in PREFILLS if p[1] + p[2] <= longest]
    decode = _fit([[1.0, n, n * c] for n, _, c in decodes], steps.take(decodes))
    prefill = _fit([[1.0, t, t * (c + t / 2)] for _, t, c in prefills], steps.take(prefills))
    offload, restore = copy_rates(runner.pool)
    return Costs(
        step=decode[0],
        token=prefill[1],
        token_context=prefill[2],
        decode_row=decode[1],
        kv_token=decode[2],
        offload=offload,
        restore=restore,
        kv_bytes=runner.pool.bytes_per_token,
        load=loaded.seconds,
        matmul_peak=matmul,
        memory_peak=memory,
    )


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
    pages = list(range(max(1, min(64, COPY_BYTES // size))))
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


def _fit(rows: list[list[float]], seconds: list[float]) -> list[float]:
    """Least squares with no negative factor: a negative one is dropped and the rest fitted again.

    Rows are weighted by 1 / seconds, so that short steps count as much as long ones.
    """
    kept = list(range(len(rows[0])))
    weights = torch.tensor([1.0 / s for s in seconds], dtype=torch.float64)
    wanted = torch.ones(len(seconds), 1, dtype=torch.float64)
    while kept:
        table = torch.tensor([[r[k] for k in kept] for r in rows], dtype=torch.float64)
        found = torch.linalg.lstsq(table * weights[:, None], wanted).solution[:, 0].tolist()
        if min(found) >= 0:
            break
        kept.pop(found.index(min(found)))
    return [found[kept.index(k)] if k in kept else 0.0 for k in range(len(rows[0]))]
