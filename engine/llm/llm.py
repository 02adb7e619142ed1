"""The local engine as the rest of plait sees it: one model, its thread, and an async door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...dag.errors import EngineError
from ...dag.sampling import Sampling
from ..generation import Generation
from .allocator import keep_freed_memory
from .calibrate import find, measure_and_keep, wanted
from .chat import Encoder, Prompt
from .checkpoint import read_weights
from .costs import Costs
from .counters import Counters, snapshot
from .delivery import GenerateCall, OnToken, OpenCalls
from .forward import Runner
from .intake import Intake
from .loop import StepLoop
from .memory import give_back, make_pool, make_tree
from .model import LoadedModel, Weights, choose_device, load, quiet
from .scheduler import Limits, Scheduler
from .serving import Serving
from .steps import Step
from .thread import StepThread
from .warming import Head
from .work import Work


class LLM:
    """One model, ready to generate. Thread-safe; `close` when done.

    kv_memory, host_memory: bytes or "2GiB" for KV on the device and for what moves to the host.
    calibrate: measure costs when none are on disk for this model, device and version (seconds,
    once); None: unless $PLAIT_CALIBRATE is 0. clock: what deadlines of pins are told in. weights:
    where they come from, if not from the model's files.
    """

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto",
        kv_memory: int | str | None = None, host_memory: int | str = 0,
        max_batch_tokens: int = 2048, max_running: int = 256, page_size: int = 16,
        prefix_cache: bool = True, calibrate: bool | None = None,
        clock: Callable[[], float] = time.monotonic, weights: Weights = read_weights,
    ) -> None:  # fmt: skip
        began = time.perf_counter()
        limits = Limits(max_batch_tokens, max_running, prefix_cache)
        quiet()
        self._place = choose_device(device)
        self._thread = StepThread(str(self._place))
        if self._place.type == "cpu":
            keep_freed_memory()
        loaded = self._thread.call(lambda: load(model, str(self._place), dtype, weights))
        self.device = str(loaded.device)
        self.dtype = str(loaded.dtype).removeprefix("torch.")
        self.max_context = loaded.max_context
        self.vocab_size = loaded.vocab_size
        self._clock = clock
        self._encoder = Encoder(loaded.tokenizer)
        pool = make_pool(loaded, kv_memory, host_memory, page_size, max_running)
        self._loaded: LoadedModel | None = loaded
        self.memory_bytes = loaded.weight_bytes + pool.size_in_memory
        self._tree = make_tree(pool, lambda: self.costs)
        self._runner = Runner(loaded.forward, pool)
        self._work = Work.of(loaded, pool.bytes_per_token)
        self.load_seconds = time.perf_counter() - began  # without measuring costs
        costs = self._thread.call(
            lambda: find(loaded, self._runner, self._tree.allocator, self._work, wanted(calibrate))
        )
        calls = OpenCalls()
        self._loop = StepLoop(
            Scheduler(self._tree, limits, pool, costs), self._runner, self._encoder,
            loaded.end_tokens, self._work, clock, calls.show,
        )  # fmt: skip
        self.kv_tokens = pool.pages * page_size  # that KV memory holds
        self.host_tokens = pool.host_pages * page_size
        self._intake = Intake(loaded, self._encoder, self.kv_tokens, clock)
        self._serving = Serving(self._loop, calls, self._intake.numbers, clock)
        self._thread.start(self._step)

    # ---- prompts ---------------------------------------------------------------------------

    def encode(self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """Token ids: messages by the chat template, text as it is, ids unchanged."""
        return self._encoder.encode(prompt, tools)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        return self._encoder.decode(token_ids)

    # ---- generating ------------------------------------------------------------------------

    async def generate(
        self,
        token_ids: Sequence[int],
        sampling: Sampling,
        *,
        priority: float = 0.0,
        salt: str = "",
        seed: int | None = None,
        expected_tokens: int | None = None,
        on_token: OnToken | None = None,
        on_begin: Callable[[], object] | None = None,
    ) -> list[Generation]:
        """`sampling.n` generations. Cancelling the awaiting task frees everything at once.

        `seed` is used when the sampling has none of its own. `expected_tokens` is how many tokens
        the caller expects, for admission; max_tokens unless told. `on_begin` is called on the
        caller's loop once it no longer waits for its turn.
        """
        requests = self._intake.requests(
            token_ids,
            sampling,
            priority=priority,
            salt=salt,
            seed=seed or 0,
            expected_tokens=expected_tokens,
            shown=on_token is not None,
        )
        future: asyncio.Future[list[Generation]] = asyncio.get_running_loop().create_future()
        call = GenerateCall(future, requests, on_token, on_begin)
        self._thread.post(lambda: self._serving.submit(call), call.close)
        try:
            return await future
        except asyncio.CancelledError:
            self._thread.post(lambda: self._serving.abort(call))
            raise

    def let_go(self, token_ids: Sequence[int], keep: int, salt: str = "") -> None:
        """Nobody will ask for what lies behind the first `keep` of these tokens: its KV is evicted
        before anything else."""
        self._help(lambda: self._tree.let_go(token_ids, keep, self._clock(), salt))

    # ---- heads -----------------------------------------------------------------------------

    def warm(self, token_ids: Sequence[int], until: float, salt: str = "") -> Head:
        """Compute the KV of these tokens when there is nothing else to do, and pin it until the
        head is released, or until a deadline in the clock's seconds. Never in anybody's way."""
        head = Head(tuple(token_ids[: self.max_context - 1]), until, salt)
        if head.tokens:
            self._help(lambda: self._serving.warming.add(head))
        return head

    def now(self) -> float:
        """The clock in which deadlines are told."""
        return self._clock()

    def release(self, head: Head) -> None:
        """The prompt that begins with it has been computed, or will not come."""
        self._help(lambda: self._serving.warming.release(head, self._clock()))

    # ---- costs -----------------------------------------------------------------------------

    @property
    def costs(self) -> Costs:
        """What computing and moving KV takes, measured unless that was declined."""
        return self._loop.scheduler.holdings.costs

    @costs.setter
    def costs(self, costs: Costs) -> None:
        self._loop.scheduler.holdings.costs = costs

    def calibrate(self) -> Costs:
        """Measure costs on this device anew, some seconds, and keep them on disk. Blocks."""

        def run() -> Costs:
            if self._loaded is None:
                raise EngineError("the engine was closed")
            free = self._tree.allocator
            return measure_and_keep(self._loaded, self._runner, free, self._work)

        self.costs = self._thread.call(run)
        return self.costs

    # ---- seeing ----------------------------------------------------------------------------

    def counters(self) -> Counters:
        """A snapshot of what was done so far."""
        return snapshot(self._loop.tally, self._loop.scheduler)

    def steps(self) -> list[Step]:
        """The latest steps, oldest first: what each asked for, computed and read."""
        return list(self._loop.steps)

    def explain(self) -> list[str]:
        """The latest evictions and preemptions, then the pins that hold: why, with numbers."""
        now = self._clock()
        events = [str(event) for event in list(self._loop.scheduler.holdings.log)]
        pins = self._thread.call(lambda: self._tree.live_pins(now))
        return events + [pin.told(now) for pin in pins]

    @property
    def closed(self) -> bool:
        """Whether it was closed, or broke."""
        return self._thread.closed

    def close(self) -> None:
        """Stop after the running step; what is unfinished fails with EngineError."""
        self._thread.close()

    # ---- on the step thread ----------------------------------------------------------------

    def _step(self, closing: bool) -> bool:
        """Run a step if there is one; whether more is to do."""
        if not closing:
            return self._serving.step()
        self._serving.close()
        self._loaded = None
        self._runner.release()
        give_back(self._place)
        return False

    def _help(self, action: Callable[[], object]) -> None:
        """Have something done that only helps."""
        self._thread.post(lambda: self._serving.attempt(action))
