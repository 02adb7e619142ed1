"""The local engine as the rest of plait sees it: one model, its thread, and an async door."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...cache.host import HostTier
from ...cache.node import Node
from ...cache.pages import PageAllocator
from ...cache.radix import RadixTree
from ...dag.errors import EngineError, PromptError
from ...dag.sampling import Sampling
from ..generation import Generation, Usage
from .calibrate import measure, read_costs
from .chat import Encoder, Prompt
from .costs import Costs
from .counters import Counters
from .forward import Runner
from .grammar import Grammars
from .loop import Outcome, StepLoop
from .memory import parse_bytes, pool_pages
from .model import LoadedModel, choose_device, load, quiet
from .pool import Pool, bytes_per_token
from .request import Request
from .sampler import seed_of
from .scheduler import Limits, Scheduler
from .stops import TextStream
from .thread import StepThread
from .work import Work

OnToken = Callable[[int, int, str], None]
"""(which of the n generations, token id, text that can be shown now), on the caller's loop."""


class _Call:
    """One `generate` call: its requests, and whom to tell."""

    def __init__(
        self, future: asyncio.Future[list[Generation]], requests: list[Request], on_token: Any
    ) -> None:
        self.future = future
        self.loop = future.get_loop()
        self.requests = requests
        self.on_token: OnToken | None = on_token
        self.generations: dict[int, Generation] = {}


class LLM:
    """One model, ready to generate. Thread-safe; `close` when done."""

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        kv_memory: int | str | None = None,
        host_memory: int | str = 0,
        max_batch_tokens: int = 2048,
        max_running: int = 256,
        page_size: int = 16,
        prefix_cache: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        quiet()
        place = str(choose_device(device))
        self._thread = StepThread(place)
        loaded = self._thread.call(lambda: load(model, place, dtype))
        self.name = loaded.name
        self.device = str(loaded.device)
        self.dtype = str(loaded.dtype).removeprefix("torch.")
        self.max_context = loaded.max_context
        self.vocab_size = loaded.vocab_size
        self._clock = clock
        self._encoder = Encoder(loaded.tokenizer)
        self._grammars = Grammars(loaded.tokenizer, loaded.vocab_size, loaded.device)
        pages = pool_pages(
            kv_memory,
            loaded.layers,
            loaded.dtype,
            page_size,
            loaded.device,
            max_running * min(loaded.max_context, 32768),
        )
        page_bytes = bytes_per_token(loaded.layers, loaded.dtype) * page_size
        host_pages = parse_bytes(host_memory) // page_bytes
        pool = Pool(loaded.layers, pages, page_size, loaded.device, loaded.dtype, host_pages)
        self._loaded: LoadedModel | None = loaded
        self.memory_bytes = loaded.weight_bytes + (pages + host_pages) * page_bytes
        # On the thread that computes: the number of torch's threads, by which costs are kept, is
        # a thread's own.
        known = self._thread.call(lambda: read_costs(loaded))
        self.costs = known or Costs(kv_bytes=pool.bytes_per_token, load=loaded.seconds)
        host = HostTier(PageAllocator(host_pages), pool, self._worth) if host_pages else None
        self._tree = RadixTree(PageAllocator(pages), page_size, host=host)
        self._runner = Runner(loaded.forward, pool)
        limits = Limits(max_batch_tokens, max_running, prefix_cache)
        self._loop = StepLoop(
            Scheduler(self._tree, limits, pool, self),
            self._runner,
            self._encoder,
            loaded.end_tokens,
            work_of(loaded, pool),
            clock,
            self._show,
        )
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._thread.start(self._step)

    # ---- prompts ---------------------------------------------------------------------------

    @property
    def has_chat_template(self) -> bool:
        return self._encoder.has_chat_template

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
    ) -> list[Generation]:
        """`sampling.n` generations. Cancelling the awaiting task frees everything at once.

        `seed` is used when the sampling has none of its own. `expected_tokens` is how many tokens
        the caller expects, for admission; max_tokens unless told.
        """
        prompt = tuple(token_ids)
        self._check(prompt)
        base = sampling.seed if sampling.seed is not None else seed or 0
        expected = min(expected_tokens or sampling.max_tokens, sampling.max_tokens)
        requests = [
            Request(
                number=next(self._numbers),
                prompt=prompt,
                sampling=sampling,
                seed=seed_of(base, index),
                arrival=self._clock(),
                priority=priority,
                salt=salt,
                limit=min(len(prompt) + sampling.max_tokens, self.max_context),
                expected=len(prompt) + expected,
                grammar=self._grammars.compile(sampling),
                stream=self._stream(sampling, on_token),
            )
            for index in range(sampling.n)
        ]
        future: asyncio.Future[list[Generation]] = asyncio.get_running_loop().create_future()
        call = _Call(future, requests, on_token)
        self._thread.post(lambda: self._submit(call), lambda: _close_call(call))
        try:
            return await future
        except asyncio.CancelledError:
            self._thread.post(lambda: self._abort(call))
            raise

    def let_go(self, token_ids: Sequence[int], keep: int, salt: str = "") -> None:
        """Nobody will ask for what lies behind the first `keep` of these tokens: its KV is evicted
        before anything else."""
        self._thread.post(lambda: self._forget(token_ids, keep, salt))

    def _forget(self, token_ids: Sequence[int], keep: int, salt: str) -> None:
        self._tree.let_go(token_ids, keep, self._clock(), salt)

    def calibrate(self) -> Costs:
        """Measure costs on this device, a few seconds, and keep them on disk. Blocks.

        Costs measured before are read when the engine is built; nothing is measured unasked.
        """

        def run() -> Costs:
            if self._loaded is None:
                raise EngineError("the engine was closed")
            return measure(self._loaded)

        self.costs = self._thread.call(run)
        return self.costs

    def counters(self) -> Counters:
        """A snapshot of what was done so far."""
        scheduler = self._loop.scheduler
        tree = self._tree
        return Counters(
            **self._loop.tally.values(),  # type: ignore[arg-type]
            preemptions=scheduler.preemptions,
            evicted_tokens=scheduler.evicted_tokens,
            running=len(scheduler.running),
            waiting=scheduler.waiting,
            free_pages=tree.allocator.free,
            cached_pages=tree.cached_pages,
            held_pages=tree.allocator.total - tree.allocator.free - tree.cached_pages,
            total_pages=tree.allocator.total,
        )

    def explain(self) -> list[str]:
        """The latest evictions and preemptions: why, with numbers."""
        return [str(event) for event in list(self._loop.scheduler.log)]

    def close(self) -> None:
        """Stop after the running step; what is unfinished fails with EngineError."""
        self._thread.close()

    # ---- what the policies ask -------------------------------------------------------------

    def restore_pays(self, tokens: int, context: int) -> bool:
        return self.costs.restore_pays(tokens, context)

    def _worth(self, node: Node, now: float) -> bool:
        """Whether a leaf about to be evicted should go to the host tier."""
        context = sum(len(n.tokens) for n in node.path()) - len(node.tokens)
        return self.costs.offload_pays(len(node.tokens), context)

    # ---- on the step thread ----------------------------------------------------------------

    def _step(self, closing: bool) -> bool:
        """Run a step if there is one; whether more is to do."""
        if closing:
            for call in set(self._calls.values()):
                _close_call(call)
            self._calls.clear()
            self._loaded = None
            self._runner.release()
            return False
        if self._loop.busy:
            for outcome in self._loop.step():
                self._deliver(outcome)
        return self._loop.busy

    def _submit(self, call: _Call) -> None:
        tally = self._loop.tally
        tally.prompt_tokens += len(call.requests[0].prompt)
        for request in call.requests:
            tally.requests += 1
            self._calls[request.number] = call
            self._loop.scheduler.add(request)

    def _abort(self, call: _Call) -> None:
        left = [r for r in call.requests if self._calls.pop(r.number, None)]
        self._loop.abort(left)

    def _deliver(self, outcome: Outcome) -> None:
        call = self._calls.pop(outcome.request.number)
        if outcome.error is not None:
            self._abort(call)
            _tell(call, error=outcome.error)
            return
        assert outcome.generation is not None
        call.generations[outcome.request.number] = outcome.generation
        if outcome.request is call.requests[0]:
            self._loop.tally.cached_tokens += outcome.generation.usage.cached_tokens
        if len(call.generations) == len(call.requests):
            _tell(call, generations=[call.generations[r.number] for r in call.requests])

    def _show(self, request: Request, token: int, text: str) -> None:
        call = self._calls[request.number]
        if call.on_token is not None:
            index = call.requests.index(request)
            _on_loop(call, lambda: call.on_token and call.on_token(index, token, text))

    # ---- checks ----------------------------------------------------------------------------

    def _check(self, prompt: tuple[int, ...]) -> None:
        if not prompt:
            raise PromptError("the prompt is empty")
        if len(prompt) >= self.max_context:
            raise PromptError(
                f"the prompt has {len(prompt)} tokens, and the model's context of "
                f"{self.max_context} leaves no room for an answer"
            )
        if min(prompt) < 0 or max(prompt) >= self.vocab_size:
            bad = next(t for t in prompt if not 0 <= t < self.vocab_size)
            raise PromptError(f"token id {bad} is outside the vocabulary of {self.vocab_size}")
        room = self._tree.allocator.total * self._tree.page_size
        if len(prompt) + 1 > room:
            raise PromptError(
                f"the prompt has {len(prompt)} tokens, and the KV memory holds {room}"
            )

    def _stream(self, sampling: Sampling, on_token: OnToken | None) -> TextStream | None:
        if not sampling.stop and on_token is None:
            return None
        return TextStream(self._encoder, sampling.stop)


def work_of(loaded: LoadedModel, pool: Pool) -> Work:
    """Sizes for counting FLOPs and bytes."""
    return Work(
        body_parameters=loaded.body_parameters,
        head_parameters=loaded.head_parameters,
        attention_width=sum(loaded.heads * shape.key_size for shape in loaded.layers),
        kv_bytes=pool.bytes_per_token,
        number_bytes=loaded.dtype.itemsize,
    )


def _tell(
    call: _Call, generations: list[Generation] | None = None, error: Exception | None = None
) -> None:
    """Resolve the caller's future, on its loop."""

    def resolve() -> None:
        if call.future.done():
            return
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(_count_prompt_once(generations or []))

    _on_loop(call, resolve)


def _on_loop(call: _Call, action: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # its loop is closed: nobody is left to tell
        call.loop.call_soon_threadsafe(action)


def _close_call(call: _Call) -> None:
    _tell(call, error=EngineError("the engine was closed"))


def _count_prompt_once(generations: list[Generation]) -> list[Generation]:
    """Of several generations of one prompt, the first counts the prompt."""
    first, *others = generations
    return [
        first,
        *(
            Generation(
                g.token_ids,
                g.text,
                g.finish_reason,
                g.logprobs,
                Usage(0, 0, g.usage.completion_tokens),
            )
            for g in others
        ),
    ]
