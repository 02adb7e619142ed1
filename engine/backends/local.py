"""The local backend: models of this machine, each served by an `LLM` engine of its own.

Models load at their first use. Under a memory limit an idle one makes room for another, in the
order the plan says; a model with calls under way stays. See `gate.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cache.holding import hold_for
from ...dag.ahead import Ahead, step_of
from ...dag.errors import ConfigError, EngineError, PromptError, list_names
from ...dag.messages import Message, user
from ...dag.sampling import Sampling
from ..generation import Generation
from ..models import find_model, one_name
from ..texts import characters_of
from ..watch import Loading
from .backend import Call
from .gate import Gate
from .shelving import build_shelf
from .warm import Head, Kept

if TYPE_CHECKING:
    from ..llm import LLM
    from ..llm.costs import Costs
    from ..llm.counters import Counters
    from ..llm.shelf import Shelf

log = logging.getLogger("plait")
MAX_CHARS_PER_TOKEN = 64
"""A text with more characters than this per token of context is refused without tokenizing it."""
INLINE_CHARS = 8_192
"""Longer prompts are tokenized in a thread, so that the event loop goes on."""


class LocalBackend:
    """Serves several models by alias; aliases that name one directory share one engine.

    memory: bytes (or "8GiB") for all models together, weights and KV; None sets no limit.
    """

    def __init__(
        self, models: Mapping[str, str | Path], memory: int | str | None = None, **options: Any
    ) -> None:
        self._names = dict(models)
        self._memory, self._options = memory, options
        self._paths = {alias: find_model(name) for alias, name in models.items()}
        self._weights: dict[str, int] = {}
        self._lock = threading.Lock()
        self._shelf: Shelf[LLM] | None = None
        self._gate: Gate | None = None
        self._tokenizing = ThreadPoolExecutor(1, "plait-tokenize")
        self._closed = False
        self._warned = False

    @property
    def aliases(self) -> Mapping[str, str]:
        """By alias, the first of those that name one directory."""
        return one_name(self._paths)

    @property
    def device(self) -> str:
        """As it was asked for."""
        return str(self._options.get("device", "auto"))

    def check(self, models: Sequence[str]) -> None:
        """Raise ConfigError for an alias that no model is given for."""
        for alias in models:
            if alias not in self._paths:
                known = list_names(list(self._paths))
                raise ConfigError(f"no model is given for alias {alias!r}: known are {known}")

    async def open(self, models: tuple[str, ...]) -> None:
        self.check(models)
        # Under a limit not all of them may fit at once; the first tells what cannot load at all.
        needed = list(models) if self._memory is None else self._first(models)
        for alias in needed:
            async with self._models().borrow(alias):
                pass

    def _first(self, models: Sequence[str]) -> list[str]:
        """The first of several models, unless one of them is there already."""
        shelf = self.shelf()
        loaded = {shelf.name(alias) for alias in shelf.loaded}
        there = any(shelf.name(alias) in loaded for alias in models)
        return [] if there else list(models[:1])

    def llm(self, alias: str) -> LLM:
        """The engine of an alias, loaded now if it is not. Blocks while it loads."""
        with self.shelf().borrow(alias) as llm:
            return llm

    def together(self, aliases: Collection[str]) -> bool:
        """Whether these models fit into memory at the same time."""
        shelf = self.shelf()
        sizes = shelf.sizes()
        needed = sum(sizes[name] for name in {shelf.name(alias) for alias in aliases})
        return shelf.limit is None or needed <= shelf.limit

    def weights(self, alias: str) -> int:
        """Bytes that a model's weights will take, by the size of its files; 0 when unknown."""
        # Here, not above: it imports torch, which must wait until a model is really wanted.
        from ..llm.model import estimate_bytes

        if alias not in self._weights:
            self._weights[alias] = estimate_bytes(self._paths[alias])
        return self._weights[alias]

    def has(self, alias: str) -> bool:
        """Whether the model is loaded now."""
        return self._shelf is not None and alias in self._shelf.loaded

    @property
    def moving(self) -> bool:
        """Whether a model is being loaded for calls or for the plan."""
        return self._gate is not None and self._gate.moving

    def at_work(self, ahead: Ahead, step: str) -> AbstractContextManager[None]:
        """A tool is at work inside the block, as this step of a run."""
        return self._models().at_work(ahead, step)

    async def generate(self, call: Call) -> list[Generation]:
        if call.model not in self._paths:
            await self.open((call.model,))
        gate, step = self._models(), step_of(call.node)
        async with gate.borrow(call.model, step, call.ahead, call.waits) as llm:
            token_ids = await self._encode(llm, call)
            sampling = self._supported(call)
            done = await llm.generate(
                token_ids, sampling, priority=call.priority, seed=call.seed, salt=call.salt,
                expected_tokens=call.expected, on_begin=call.begun,
            )  # fmt: skip
            ends = call.last is None or call.last(done)
            if call.still_wanted is not None and ends:
                keep = math.ceil(call.still_wanted() * len(token_ids))
                for generation in done:
                    llm.let_go((*token_ids, *generation.token_ids[:-1]), keep, call.salt)
            return done

    async def warm(self, head: Head) -> Kept | None:
        """Keep what the head's two prompts begin with in common, and compute what is missing when
        there is time for it. None when its model is not loaded: a head is no reason to load one."""
        shelf = self._shelf
        llm = shelf.take_loaded(head.model) if shelf is not None else None
        if shelf is None or llm is None:
            return None
        try:
            calls = (Call(prompt, Sampling(), tools=head.tools) for prompt in head.prompts)
            one, two = [await self._encode(llm, call) for call in calls]
            tokens = one[: _same(one, two)]
            loss = llm.costs.loss(len(tokens), host=len(tokens) <= llm.host_tokens)
            hold = hold_for(head.awaited, loss, len(tokens) / llm.kv_tokens)
            kept = llm.warm(tokens, llm.now() + hold.seconds, head.salt)
            return Kept(lambda: llm.release(kept), hold)
        finally:
            shelf.give(head.model)

    def shelf(self) -> Shelf[LLM]:
        """Engines by alias, loaded or not."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._shelf is None:
                self._shelf = build_shelf(self._paths, self._memory, self._options)
            return self._shelf

    def _models(self) -> Gate:
        if self._gate is None or self._closed:
            shelf = self.shelf()
            with self._lock:
                self._gate = self._gate or Gate(shelf)
        return self._gate

    async def _encode(self, llm: LLM, call: Call) -> Sequence[int]:
        prompt = call.prompt
        if isinstance(prompt, str):
            prompt = prompt if call.raw else [user(prompt)]
        elif not prompt or not isinstance(prompt[0], Message):
            return prompt  # type: ignore[return-value]
        size = len(prompt) if isinstance(prompt, str) else sum(len(m.content) for m in prompt)
        if size > llm.max_context * MAX_CHARS_PER_TOKEN:
            what = f"a prompt of {size:,} characters is longer than the context"
            raise PromptError(f"{what} of {llm.max_context:,} tokens")
        if size <= INLINE_CHARS:
            return llm.encode(prompt, call.tools or None)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, llm.encode, prompt, call.tools or None)

    def _supported(self, call: Call) -> Sampling:
        """Without the extra `json` the JSON answer of an operator is validated by its type, but
        not constrained while it is written. Nobody would validate a raw one: it is refused."""
        sampling, parts = call.sampling, ("llguidance", "jsonschema")
        if sampling.json_schema is None or call.raw or all(map(find_spec, parts)):
            return sampling
        if not self._warned:
            self._warned = True
            log.warning("JSON is checked but not enforced: pip install 'plait[json]' enforces it")
        return replace(sampling, json_schema=None)

    def describe(self) -> dict[str, Any]:
        shelf = self._shelf
        engines = shelf.loaded if shelf is not None else {}
        moves = shelf.costs() if shelf is not None else {}
        return {
            "backend": "local",
            "models": {alias: str(name) for alias, name in self._names.items()},
            "loaded": {
                alias: {"device": e.device, "dtype": e.dtype, "kv_tokens": e.kv_tokens}
                for alias, e in engines.items()
            },
            "loads": {alias: asdict(cost) for alias, cost in moves.items()},
        }

    def characters(self, model: str, sample: str) -> float | None:
        llm = self._shelf.loaded.get(model) if self._shelf is not None else None
        return None if llm is None else characters_of(llm, sample)

    def counters(self) -> dict[str, Counters]:
        """What each loaded engine has done so far, under the first of its aliases."""
        shelf = self._shelf
        if shelf is None:
            return {}
        return {a: llm.counters() for a, llm in shelf.loaded.items() if shelf.name(a) == a}

    def costs(self) -> dict[str, Costs]:
        """What computing costs on each loaded model, by alias."""
        shelf = self._shelf
        return {a: llm.costs for a, llm in shelf.loaded.items()} if shelf is not None else {}

    def loads(self) -> list[Loading]:
        """When models were loaded, under the first of their aliases."""
        return [Loading(*move) for move in self._shelf.moves()] if self._shelf is not None else []

    def close(self) -> None:
        with self._lock:
            self._closed = True
            shelf = self._shelf
        if shelf is not None:
            shelf.close()
        if self._gate is not None:
            self._gate.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)


def _same(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two prompts have in common at their beginnings."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))
